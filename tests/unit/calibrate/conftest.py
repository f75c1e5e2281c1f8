"""A small network with signed and nonnegative tensors, and frames made of seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import attrs
import numpy as np
import pytest
from numpy.typing import NDArray

from lowtide.data import DataSource, Frame
from lowtide.diagnostics import Diagnostics
from lowtide.ir import Constant, DType, Graph, TensorType, Value
from lowtide.ir.shapes import infer_types
from lowtide.runtime import Session

SHAPE = (1, 3, 16, 16)
FLOAT = TensorType(DType.FLOAT32, None)


@attrs.define
class SeededSource:
    """Frames that follow from their numbers alone; `noted` are told of while they are read."""

    numbers: tuple[int, ...]
    print: str | None = None
    known: bool = True
    interrupt_at: int | None = None
    noted: tuple[int, ...] = ()
    change: Callable[[int, NDArray[np.float32]], None] = lambda _number, _array: None
    diagnostics: Diagnostics = attrs.field(factory=Diagnostics)

    @property
    def count(self) -> int | None:
        return len(self.numbers) if self.known else None

    def fingerprint(self) -> str | None:
        return self.print

    def frames(self) -> Iterator[Frame]:
        for position, number in enumerate(self.numbers):
            if position == self.interrupt_at:
                raise KeyboardInterrupt
            array = np.random.default_rng(number).normal(size=SHAPE).astype(np.float32)
            self.change(number, array)
            if number in self.noted:
                self.diagnostics.warning("LT752", f"frame{number}", "every element is 0")
            yield Frame(f"frame{number}", {"x": array})


MakeSource = Callable[..., Any]


@pytest.fixture
def source_of() -> MakeSource:
    """Makes a source of so many frames."""

    def make(frames: int | tuple[int, ...], **given: Any) -> DataSource:
        numbers = tuple(range(frames)) if isinstance(frames, int) else frames
        return cast(DataSource, SeededSource(numbers, **given))

    return make


@pytest.fixture
def network() -> Graph:
    """Conv+Relu, a signed Conv, MaxPool, a residual Add, and a classifier."""
    rng = np.random.default_rng(7)
    graph = Graph("small")

    def weight(name: str, *shape: int) -> Value:
        return graph.add_constant(name, Constant.of(rng.normal(0, 0.2, shape).astype(np.float32)))

    def add(op: str, name: str, *operands: Value, layer: str = "", **attributes: Any) -> Value:
        return graph.add_node(op, operands, [(name, FLOAT)], attributes, layer=layer).output

    x = graph.add_input("x", TensorType(DType.FLOAT32, SHAPE))
    c1 = add("Conv", "c1", x, weight("w1", 16, 3, 3, 3), weight("b1", 16), layer="r1", pads=(1, 1, 1, 1))
    r1 = add("Relu", "r1", c1, layer="r1")
    c2 = add("Conv", "c2", r1, weight("w2", 16, 16, 3, 3), weight("b2", 16), pads=(1, 1, 1, 1))
    pooled = add("MaxPool", "pooled", c2, kernel_shape=(2, 2), strides=(2, 2))
    c3 = add("Conv", "c3", pooled, weight("w3", 16, 16, 1, 1), layer="sum")
    total = add("Add", "sum", c3, pooled, layer="sum")
    gated = add("Sigmoid", "gated", total)
    mean = add("GlobalAveragePool", "mean", gated)
    flat = add("Flatten", "flat", mean)
    scores = add("Gemm", "scores", flat, weight("w4", 16, 5))
    graph.set_outputs([add("Softmax", "prob", scores, axis=1)])
    infer_types(graph)
    return graph


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one entry with every run of a session."""
    done: list[int] = []
    run = Session.run

    def counted(self: Session, feeds: Any) -> Any:
        done.append(1)
        return run(self, feeds)

    monkeypatch.setattr(Session, "run", counted)
    return done
