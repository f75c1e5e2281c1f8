"""Hypothesis strategies for what the core passes around."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import attrs
import hypothesis.extra.numpy as nps
import hypothesis.strategies as st
import numpy as np

from lowtide.ir import (
    QUANTIZED_DTYPES,
    AttributeValue,
    Constant,
    DType,
    Graph,
    Location,
    Node,
    QuantParams,
    TensorType,
    Value,
)
from lowtide.passes import Pass, PassContext, PassOutcome

ACTIVATION_DTYPES = (DType.INT8, DType.UINT8, DType.INT16, DType.UINT16)
SIDE = 4
"""Height and width of every activation of a random graph."""

names = st.one_of(
    st.text(st.sampled_from("abcXYZ019_./:-"), min_size=1, max_size=8),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6),
    st.sampled_from(['a "quoted" name', "back\\slash", "line\nbreak", "größe", "%1", "a:", "_", "0", "// x"]),
)
"""Names of tensors and nodes, most of them awkward."""

float_attributes = st.floats(width=32, allow_nan=False)
int_attributes = st.integers(DType.INT64.min, DType.INT64.max)


@st.composite
def quant_params(
    draw: st.DrawFn, dtypes: tuple[DType, ...] = tuple(sorted(QUANTIZED_DTYPES)), channels: int | None = None
) -> QuantParams:
    """Parameters per tensor, or with `channels` per index of the first axis."""
    dtype = draw(st.sampled_from(dtypes))
    smallest, largest = float(np.float32(1e-6)), float(np.float32(1e6))
    scales = st.floats(smallest, largest, width=32)
    zeros = st.integers(dtype.min, dtype.max) if draw(st.booleans()) else st.just(0)
    count = 1 if channels is None else channels
    scale = draw(st.lists(scales, min_size=count, max_size=count))
    zero = draw(st.lists(zeros, min_size=count, max_size=count))
    return QuantParams(dtype, scale, zero, None if channels is None else 0)


@st.composite
def tensor_types(draw: st.DrawFn) -> TensorType:
    """Types with known, open and unknown shapes, some quantized per tensor or per channel."""
    dims = st.one_of(st.none(), st.integers(0, 9))
    shape = draw(st.one_of(st.none(), st.lists(dims, max_size=4)))
    quant = draw(st.one_of(st.none(), quant_params()))
    if quant is not None and shape and shape[0]:
        quant = draw(st.one_of(st.just(quant), quant_params(channels=shape[0])))
    dtype = DType.FLOAT32 if quant else draw(st.sampled_from(DType))
    return TensorType(dtype, shape, quant)


def elements(dtype: DType) -> st.SearchStrategy[Any]:
    """Elements of a tensor; floats include both zeros and both infinities, but no NaN."""
    return nps.from_dtype(dtype.numpy, allow_nan=False)


@st.composite
def constants(draw: st.DrawFn, dtype: DType | None = None, shape: tuple[int, ...] | None = None) -> Constant:
    """Constants of every dtype: empty ones, scalars, uniform ones, and ones too large to be printed."""
    kind = dtype or draw(st.sampled_from(DType))
    dims = (
        shape if shape is not None else draw(nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))
    )
    if math.prod(dims) > 4 and draw(st.booleans()):
        return Constant.of(np.full(dims, draw(elements(kind)), kind.numpy))
    return Constant.of(draw(nps.arrays(kind.numpy, dims, elements=elements(kind))))


class _Drawn:
    """A graph under construction: activations float32 ``[1, C, 4, 4]``, so that any one fits anywhere."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.graph = Graph(draw(names))
        self.channels = draw(st.integers(1, 3))
        self.activations = [
            self.graph.add_input(self.name(), self.type()) for _ in range(draw(st.integers(1, 2)))
        ]

    def name(self) -> str:
        return self.graph.fresh_name(self.draw(names))

    def type(self) -> TensorType:
        quant = self.draw(st.one_of(st.none(), quant_params(ACTIVATION_DTYPES)))
        return TensorType(DType.FLOAT32, (1, self.channels, SIDE, SIDE), quant)

    def location(self) -> Location:
        several = st.lists(names, max_size=2).map(tuple)
        return Location(
            self.draw(st.sampled_from(["", "m.onnx", 'odd "name".tflite'])),
            *self.draw(st.tuples(several, several)),
        )

    def pick(self) -> Value:
        return self.draw(st.sampled_from(self.activations))

    def constant(self, shape: tuple[int, ...]) -> Value:
        values = st.floats(-4, 4, width=32)
        data = self.draw(nps.arrays(np.float32, shape, elements=values))
        return self.graph.add_constant(self.name(), Constant.of(data))

    def weights(self) -> Value:
        shape = (self.channels, self.channels, 1, 1)
        if self.draw(st.booleans()):
            return self.constant(shape)
        channels = self.draw(st.sampled_from([None, self.channels]))
        quant = self.draw(quant_params((DType.INT8, DType.UINT8), channels))
        data = self.draw(constants(quant.dtype, shape))
        return self.graph.add_constant(self.name(), data, TensorType(DType.FLOAT32, shape, quant))

    def add(
        self,
        op: str,
        inputs: Sequence[Value | None],
        attributes: dict[str, AttributeValue] | None = None,
        output: TensorType | None = None,
        layer: str = "",
    ) -> Node:
        taken = {node.name for node in self.graph}
        wanted = self.draw(st.one_of(st.just(""), names))
        result = (self.name(), output or self.type())
        name = next(
            n
            for n in (wanted or result[0], *(f"{result[0]}#{i}" for i in range(len(taken) + 1)))
            if n not in taken
        )
        return self.graph.add_node(
            op, inputs, [result], attributes, name=name, location=self.location(), layer=layer
        )


def _unary(made: _Drawn) -> Value:
    return made.add(made.draw(st.sampled_from(["Relu", "Sigmoid", "Tanh", "Identity"])), [made.pick()]).output


def _leaky(made: _Drawn) -> Value:
    alpha = made.draw(st.one_of(float_attributes, st.integers(-3, 3)))
    return made.add("LeakyRelu", [made.pick()], {"alpha": alpha}).output


def _clip(made: _Drawn) -> Value:
    low = made.constant(()) if made.draw(st.booleans()) else None
    return made.add("Clip", [made.pick(), low, made.constant(())]).output


def _binary(made: _Drawn) -> Value:
    return made.add(made.draw(st.sampled_from(["Add", "Mul", "Sub"])), [made.pick(), made.pick()]).output


def _conv(made: _Drawn) -> Value:
    attributes: dict[str, AttributeValue] = {"strides": (1, 1), "group": 1, "auto_pad": "NOTSET"}
    bias = [made.constant((made.channels,))] if made.draw(st.booleans()) else []
    operands = [made.pick(), made.weights(), *bias]
    if made.draw(st.booleans()):
        return made.add("Conv", operands, attributes).output
    plain = TensorType(DType.FLOAT32, (1, made.channels, SIDE, SIDE))
    last = made.name()
    conv = made.add("Conv", operands, attributes, plain, layer=last)
    relu = made.add("Relu", [conv.output], layer=last)
    if last not in made.graph.values:
        made.graph.rename(relu.output, last)
    return relu.output


def _pool(made: _Drawn) -> Value:
    pool: dict[str, AttributeValue] = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1), "strides": (1, 1)}
    return made.add("MaxPool", [made.pick()], pool).output


def _split(made: _Drawn) -> Value:
    half = TensorType(DType.FLOAT32, (1, made.channels, SIDE, SIDE // 2))
    first = made.name()
    second = made.graph.fresh_name(f"{first} 2")
    split: dict[str, AttributeValue] = {"axis": 3, "num_outputs": 2}
    node = made.graph.add_node("Split", [made.pick()], [(first, half), (second, half)], split)
    return made.add("Concat", node.outputs[::-1], {"axis": 3}).output


def _tensor_attribute(made: _Drawn) -> Value:
    data = Constant.of(
        made.draw(nps.arrays(np.float32, (1, made.channels, 1, 1), elements=st.floats(-4, 4, width=32)))
    )
    scale = made.add("Constant", [], {"value": data}, TensorType(DType.FLOAT32, data.shape))
    return made.add("Mul", [made.pick(), scale.output]).output


def _recurrent(made: _Drawn) -> Value:
    lists: dict[str, AttributeValue] = {
        "activations": ("Affine",),
        "activation_alpha": (made.draw(st.floats(-1, 1, width=32)),),
        "activation_beta": (0.5,),
        "hidden_size": 1,
    }
    operands: list[Value | None] = [
        made.constant((1, 1, 2)),
        made.constant((1, 1, 2)),
        made.constant((1, 1, 1)),
    ]
    state = made.add("RNN", operands, lists, TensorType(DType.FLOAT32, (1, 1, 1, 1)))
    return made.add("Add", [made.pick(), state.output]).output


_STEPS: tuple[Callable[[_Drawn], Value], ...] = (
    _unary,
    _leaky,
    _clip,
    _binary,
    _conv,
    _pool,
    _split,
    _tensor_attribute,
    _recurrent,
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Valid directed acyclic graphs that ONNX Runtime could run: shared values, dead nodes, optional operands
    left out, fused layers, quantized values, locations and attributes of every kind."""
    made = _Drawn(draw)
    for _ in range(draw(st.integers(0, 6))):
        made.activations.append(draw(st.sampled_from(_STEPS))(made))
    made.graph.set_outputs(
        draw(st.lists(st.sampled_from(made.activations), min_size=1, max_size=3, unique=True))
    )
    return made.graph


@attrs.frozen(kw_only=True)
class Everything(Pass):
    """A pass with an option of every type that there is."""

    name: ClassVar[str] = "everything"

    flag: bool = False
    count: int = 3
    share: float = 0.5
    label: str = "plain"
    limit: int | None = None
    ratio: float | None = 0.25
    choice: str | None = None
    either: bool | str = True
    size: int | float | str = 1
    with_underscore: bool = True

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """Do nothing."""
        del graph, ctx
        return PassOutcome(changed=False)


_texts = st.one_of(
    st.text(max_size=6), st.sampled_from(["none", "true", "1e5", "inf", "-1", "1_0", 'say "x"', "a,b={}"])
)
_floats = st.floats(allow_nan=False)

pipelines = st.lists(
    st.builds(
        Everything,
        flag=st.booleans(),
        count=st.integers(),
        share=_floats,
        label=_texts,
        limit=st.one_of(st.none(), st.integers()),
        ratio=st.one_of(st.none(), _floats),
        choice=st.one_of(st.none(), _texts),
        either=st.one_of(st.booleans(), _texts),
        size=st.one_of(st.integers(), _floats, _texts),
        with_underscore=st.booleans(),
    ),
    max_size=3,
).map(tuple)
"""Pipelines of `Everything`, which tests register under the name ``everything``."""
