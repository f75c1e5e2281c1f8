from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lowtide.calibrate import provably_nonnegative
from lowtide.ir import Constant, DType, Graph, TensorType, Value
from lowtide.ir.shapes import infer_types
from lowtide.runtime import Session, to_model

Step = tuple[str, tuple[Any, ...], dict[str, Any]]

FLOAT = TensorType(DType.FLOAT32, None)


def graph_of(*steps: Step) -> Graph:
    """A chain; an operand is the number of a step, ``"x"``, ``None`` or the data of a constant."""
    graph = Graph("chain")
    made: dict[Any, Value | None] = {"x": graph.add_input("x", TensorType(DType.FLOAT32, (1, 4, 4, 4)))}
    made[None] = None
    for number, (op, operands, attributes) in enumerate(steps):
        read: list[Value | None] = []
        for position, operand in enumerate(operands):
            if isinstance(operand, np.ndarray):
                read.append(graph.add_constant(f"k{number}_{position}", Constant.of(operand)))
            else:
                read.append(made[operand])
        node = graph.add_node(op, read, [(f"v{number}", FLOAT)], attributes)
        made[number] = node.output
    graph.set_outputs([value for value in made.values() if value is not None and value.producer is not None])
    infer_types(graph)
    return graph


def f(*numbers: float) -> np.ndarray[Any, Any]:
    array = np.array(numbers, np.float32)
    return array.reshape(()) if len(numbers) == 1 else array


RELU: Step = ("Relu", ("x",), {})
SIZES = np.array([1, 4, 8, 8])
EMPTY = np.array([], np.float32)
POOL = {"kernel_shape": (2, 2)}

PROVABLE: list[tuple[Step, ...]] = [
    (RELU,),
    (("Clip", ("x", f(0.0), f(6.0)), {}),),
    (("Clip", ("x", f(0.5)), {}),),
    (("Sigmoid", ("x",), {}),),
    (("Softmax", ("x",), {}),),
    (("Abs", ("x",), {}),),
    (("HardSigmoid", ("x",), {}),),
    (("Exp", ("x",), {}),),
    (RELU, ("MaxPool", (0,), POOL)),
    (RELU, ("AveragePool", (0,), POOL)),
    (RELU, ("Clip", (0, f(-1.0), f(6.0)), {})),
    (RELU, ("Flatten", (0,), {})),
    (RELU, ("Concat", (0, 0), {"axis": 1})),
    (RELU, ("Add", (0, f(1.0)), {})),
    (RELU, ("Mul", (0, f(2.0)), {})),
    (RELU, ("Resize", (0, None, None, SIZES), {"mode": "linear"})),
    (RELU, ("Pad", (0, np.array([0, 0, 1, 1] * 2)), {})),
    (RELU, ("Pad", (0, np.array([0, 0, 1, 1] * 2), f(2.0)), {})),
]
UNPROVABLE: list[tuple[Step, ...]] = [
    (("Neg", ("x",), {}),),
    (("Clip", ("x", f(-1.0), f(6.0)), {}),),
    (("Clip", ("x", None, f(6.0)), {}),),
    (("Clip", ("x", f(0.0), f(-6.0)), {}),),
    (("MaxPool", ("x",), POOL),),
    (("HardSwish", ("x",), {}),),
    (("Tanh", ("x",), {}),),
    (RELU, ("Concat", (0, "x"), {"axis": 1})),
    (RELU, ("Add", (0, f(-1.0)), {})),
    (RELU, ("Mul", (0, f(-1.0)), {})),
    (RELU, ("Sub", (0, 0), {})),
    (RELU, ("Resize", (0, None, None, SIZES), {"mode": "cubic"})),
    (RELU, ("Pad", (0, np.array([0, 0, 1, 1] * 2), f(-2.0)), {})),
]


def name_of(steps: tuple[Step, ...]) -> str:
    return "-".join(op for op, _, _ in steps)


@pytest.mark.parametrize("steps", PROVABLE, ids=name_of)
def test_what_is_called_nonnegative_is_never_below_zero(steps: Any) -> None:
    graph = graph_of(*steps)
    last = f"v{len(steps) - 1}"
    assert last in provably_nonnegative(graph)
    session = Session(to_model(graph, quantized=False))
    for seed in range(5):
        array = np.random.default_rng(seed).normal(0, 10, (1, 4, 4, 4)).astype(np.float32)
        assert session.run({"x": array})[last].min() >= 0


@pytest.mark.parametrize("steps", UNPROVABLE, ids=name_of)
def test_what_may_go_below_zero_is_not_called_nonnegative(steps: Any) -> None:
    assert f"v{len(steps) - 1}" not in provably_nonnegative(graph_of(*steps))


def test_an_input_of_unsigned_integers_is_nonnegative() -> None:
    graph = Graph("u")
    x = graph.add_input("x", TensorType(DType.UINT8, (1, 3)))
    cast = graph.add_node("Cast", [x], [("y", FLOAT)], {"to": 1})
    graph.set_outputs([cast.output])
    assert provably_nonnegative(graph) == {"x", "y"}
