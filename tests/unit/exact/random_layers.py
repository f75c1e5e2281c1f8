"""Random quantized layers and small networks, for the oracle and the fast execution alike."""

from __future__ import annotations

import math
from typing import Any

import attrs
import hypothesis.strategies as st
import numpy as np
from numpy.typing import NDArray

from lowtide.exact import ExactSession, find_profile
from lowtide.ir import AttributeValue, Constant, DType, Graph, QuantParams, TensorType, Value, print_graph
from lowtide.ir.shapes import infer_types
from lowtide.quantize.operands import by_output_channel
from lowtide.runtime import dequantize
from unit.exact import oracle

Numbers = NDArray[Any]
PROFILE_NAMES = ("shift", "multiplier", "float32", "xnnpack")


@attrs.define
class Making:
    """A network under construction.

    Attributes:
        draw: decides structure; numbers come from `generator`.
        arithmetic: shifts need scales that differ by powers of two.
    """

    draw: st.DrawFn
    generator: np.random.Generator
    arithmetic: str
    graph: Graph = attrs.field(factory=lambda: Graph("random"))

    def quant(self, dtype: DType, scale: float) -> QuantParams:
        """Parameters with or without a zero point; the ends of the codes are likely ones."""
        ends = st.sampled_from([0, dtype.min, dtype.max, (dtype.min + dtype.max + 1) // 2])
        zero = self.draw(st.one_of(ends, st.integers(dtype.min, dtype.max)))
        if self.arithmetic == "shift" or dtype.bits > 8:  # devices have zero points for free scales of 8 bits
            zero = 0
        return QuantParams(dtype, scale, zero)

    def scale(self, magnitude: float) -> float:
        """A scale near a magnitude."""
        if self.arithmetic == "shift":
            return math.ldexp(1.0, round(math.log2(magnitude)))
        return float(np.float32(magnitude * self.generator.uniform(0.7, 1.4)))

    def value(self, shape: tuple[int, ...], bits: int) -> Value:
        """An input."""
        dtype = DType(self.draw(st.sampled_from([f"int{bits}", f"uint{bits}"])))
        quant = self.quant(dtype, self.scale(2.0 ** self.draw(st.integers(-6, 2))))
        return self.graph.add_input(f"x{len(self.graph.inputs)}", TensorType(DType.FLOAT32, shape, quant))

    def like(self, shape: tuple[int, ...], value: Value) -> Value:
        """Another input, of a scale not far from that of a value."""
        quant = quant_of(value)
        other = self.quant(quant.dtype, self.scale(quant.scale[0] * 2.0 ** self.draw(st.integers(-3, 3))))
        return self.graph.add_input(f"x{len(self.graph.inputs)}", TensorType(DType.FLOAT32, shape, other))

    def product(
        self,
        op: str,
        source: Value,
        shape: tuple[int, ...],
        bits: int,
        *,
        out_bits: int,
        group: int = 1,
        **attributes: AttributeValue,
    ) -> Value:
        """Conv, ConvTranspose, Gemm or MatMul with weights of this shape, maybe with a bias and a clamp."""
        graph, number = self.graph, len(self.graph)
        codes = self.weights(shape, bits)
        if op.startswith("Conv"):
            attributes["group"] = group
        count = {"Conv": shape[0], "ConvTranspose": shape[1] * group, "Gemm": shape[0]}.get(op, shape[-1])
        last = 1 if len(shape) == 2 else None
        axis = {"Conv": 0, "ConvTranspose": 1 if group == 1 else None, "Gemm": 0}.get(op, last)
        per_channel = axis is not None and self.draw(st.booleans())
        channels = count if per_channel else 1
        base = 2.0 ** self.draw(st.integers(-9, -4))
        scales = [self.scale(base * 2.0 ** self.generator.integers(-2, 3)) for _ in range(channels)]
        quant = QuantParams(DType(f"int{bits}"), scales, 0, axis if per_channel else None)
        weights = graph.add_constant(
            f"w{number}",
            Constant.of(codes.astype(quant.dtype.numpy)),
            TensorType(DType.FLOAT32, shape, quant),
        )
        layer = f"y{number}"
        made = graph.add_node(
            op, [source, weights], [(layer, TensorType(DType.FLOAT32, None))], attributes, layer=layer
        )
        rows = by_output_channel(made, codes)
        seen = quant_of(source)
        largest = max(abs(seen.dtype.min - seen.zero_point[0]), abs(seen.dtype.max - seen.zero_point[0]))
        reach = int(np.abs(rows).sum(axis=1).max()) * largest
        if op != "MatMul" and self.draw(st.booleans()):
            limit = min(self.draw(st.sampled_from([10, reach // 8 + 1, reach, 2**31 - 1])), 2**31 - 1)
            bias = Constant.of(self.generator.integers(-limit, limit, count, np.int32, endpoint=True))
            steps = [seen.scale[0] * s for s in scales]
            known = QuantParams(DType.INT32, steps, 0, 0 if per_channel else None)
            kind = TensorType(DType.FLOAT32, (count,), known)
            graph.set_input(made, 2, graph.add_constant(f"b{number}", bias, kind))
        return self.finish(made.output, seen.scale[0] * max(scales) * reach, out_bits)

    def weights(self, shape: tuple[int, ...], bits: int) -> Numbers:
        """All codes, or few of them, or the largest."""
        low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        kind = self.draw(st.sampled_from(["all", "small", "ends", "largest"]))
        if kind == "largest":
            return np.full(shape, high) - self.generator.integers(0, 2, shape)
        if kind == "ends":
            return self.generator.choice(np.array([low, high]), shape)
        limit = high if kind == "all" else 3
        return self.generator.integers(-limit, limit, shape, endpoint=True)

    def finish(self, value: Value, reach: float, bits: int) -> Value:
        """Give a float result its codes; behind a clamp, when one is drawn."""
        dtype = DType(self.draw(st.sampled_from([f"int{bits}", f"uint{bits}"])))
        # From codes of which few are used to accumulators most of which saturate.
        scale = self.scale(max(reach / dtype.max * 2.0 ** self.draw(st.integers(-6, 1)), 1e-30))
        made = self.quant(dtype, scale)
        behind = self.draw(st.sampled_from(["", "", "Relu", "Clip"]))
        layer = value.name
        if behind == "Relu":
            node = self.graph.add_node("Relu", [value], [(f"r{layer}", value.type)], layer=layer)
        elif behind == "Clip":
            ends = sorted(self.generator.integers(-dtype.max // 2, dtype.max, 2) * scale)
            operands = [
                self.graph.add_constant(f"{name}{layer}", Constant.of(np.float32(end)))
                for name, end in zip(("low", "high"), ends, strict=True)
            ]
            node = self.graph.add_node("Clip", [value, *operands], [(f"r{layer}", value.type)], layer=layer)
        else:
            self.graph.retype(value, value.type.with_quant(made))
            return value
        self.graph.retype(node.output, node.output.type.with_quant(made))
        return node.output


def quant_of(value: Value) -> QuantParams:
    """The parameters of a value with codes."""
    assert value.type.quant is not None
    return value.type.quant


@st.composite
def layers(draw: st.DrawFn) -> tuple[Graph, str, int]:
    """One product of random geometry, its arithmetic, and a seed for codes."""
    seed = draw(st.integers(0, 2**32 - 1))
    making = Making(draw, np.random.default_rng(seed), draw(st.sampled_from(PROFILE_NAMES)))
    op = draw(st.sampled_from(["Conv", "Conv", "Conv", "ConvTranspose", "Gemm", "MatMul"]))
    bits = st.sampled_from([8, 8, 8, 16])
    wide = draw(bits), draw(bits), draw(bits)
    batch = draw(st.integers(1, 2))
    if op in {"Gemm", "MatMul"}:
        inputs, outputs = draw(st.sampled_from([1, 7, 64, 300, 700])), draw(st.integers(1, 9))
        lead = draw(st.sampled_from([(), (), (3,), (1, 2)])) if op == "MatMul" else ()
        source = making.value((*draw(st.sampled_from([(), lead])), batch, inputs), wide[0])
        shape = (outputs, inputs) if op == "Gemm" else (*lead, inputs, outputs)
        transposed: dict[str, int] = {"transB": 1} if op == "Gemm" else {}
        made = making.product(op, source, shape, wide[1], out_bits=wide[2], **transposed)
    else:
        made = convolution(making, op, batch, wide)
    making.graph.set_outputs([made])
    infer_types(making.graph)
    if draw(st.booleans()):
        aim(making, seed)
    return making.graph, making.arithmetic, seed


def aim(making: Making, seed: int) -> None:
    """Choose biases for which one sum of every channel lies where rounding decides, or beside it."""
    graph, node = making.graph, making.graph.nodes[0]
    bias, made, source = node.operand(2), graph.outputs[0].type.quant, graph.inputs[0].type.quant
    if bias is None or bias.constant is None or made is None or source is None:
        return
    codes = codes_for(graph, seed)
    x = oracle.centred(graph.inputs[0], codes)
    sums = oracle.products(node, x, oracle.centred(node.value(1), codes)).swapaxes(0, 1)
    sums = sums.reshape(len(sums), -1)
    scales = np.broadcast_to(quant_of(node.value(1)).scale, len(sums))
    low, high = oracle.limits(made)
    biases = bias.constant.array().copy()
    for channel, (row, scale) in enumerate(zip(sums, scales, strict=True)):
        wanted = making.generator.integers(low, high) + 0.5
        begin = int(wanted * made.scale[0] / (source.scale[0] * scale))
        found = begin + int(making.generator.integers(-2, 3)) - int(making.generator.choice(row))
        if abs(found) < 2**31:
            biases[channel] = found
    graph.set_constant(bias, Constant.of(biases), bias.type)


def convolution(making: Making, op: str, batch: int, wide: tuple[int, int, int]) -> Value:
    """A convolution of one or two dimensions."""
    draw, rank = making.draw, making.draw(st.sampled_from([1, 2, 2, 2]))
    group = draw(st.sampled_from([1, 1, 2, 8]))
    inputs = group * draw(st.sampled_from([1, 1, 2, 8, 24]))
    outputs = group * draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    strides = [draw(st.integers(1, 2)) for _ in range(rank)]
    dilations = [draw(st.integers(1, 2)) for _ in range(rank)]
    spans = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    pads = [draw(st.integers(0, span)) for span in spans] + [draw(st.integers(0, span)) for span in spans]
    size = [span + draw(st.integers(1, 4)) for span in spans]
    if op == "ConvTranspose":
        pads = [min(pad, 1) for pad in pads]
        size = [entry + 1 for entry in size]
    source = making.value((batch, inputs, *size), wide[0])
    shape = (outputs, inputs // group) if op == "Conv" else (inputs, outputs // group)
    return making.product(
        op,
        source,
        (*shape, *kernel),
        wide[1],
        out_bits=wide[2],
        group=group,
        kernel_shape=tuple(kernel),
        strides=tuple(strides),
        dilations=tuple(dilations),
        pads=tuple(pads),
    )


@st.composite
def networks(draw: st.DrawFn) -> tuple[Graph, str, int]:
    """Convolutions, depthwise ones among them, with sums of branches and pools between."""
    seed = draw(st.integers(0, 2**32 - 1))
    making = Making(draw, np.random.default_rng(seed), draw(st.sampled_from(PROFILE_NAMES)))
    graph = making.graph
    bits = draw(st.sampled_from([8, 8, 16]))
    channels = draw(st.sampled_from([3, 8, 16]))
    here = making.value((1, channels, 6, 6), bits)
    for _ in range(draw(st.integers(2, 5))):
        kind = draw(st.sampled_from(["conv", "point", "depthwise", "add", "sub", "max", "average"]))
        if kind in {"conv", "point", "depthwise"}:
            group = channels if kind == "depthwise" else 1
            size = 1 if kind == "point" else 3
            here = making.product(
                "Conv",
                here,
                (channels, channels // group, size, size),
                draw(st.sampled_from([8, 8, 16])) if bits == 16 else 8,
                out_bits=bits,
                group=group,
                kernel_shape=(size, size),
                pads=(size // 2,) * 4,
            )
        elif kind in {"add", "sub"}:
            same = [v for v in graph.values.values() if v is not here and not v.is_constant and v.type.quant]
            other = draw(st.sampled_from(same)) if same else making.like((1, channels, 6, 6), here)
            pair = [here, other] if draw(st.booleans()) else [other, here]
            reach = sum(quant_of(value).scale[0] * quant_of(value).dtype.max for value in pair)
            name = f"y{len(graph)}"
            op = kind.capitalize()
            node = graph.add_node(op, pair, [(name, TensorType(DType.FLOAT32, None))], layer=name)
            here = making.finish(node.output, reach, bits)
        else:
            op = "MaxPool" if kind == "max" else "AveragePool"
            name = f"y{len(graph)}"
            # The plane keeps its size, so that every value can be added to every other.
            attributes = {"kernel_shape": (3, 3), "strides": (1, 1), "pads": (1, 0, 1, 2)}
            node = graph.add_node(op, [here], [(name, here.type)], attributes, layer=name)
            here = node.output
    graph.set_outputs([here])
    infer_types(graph)
    return graph, making.arithmetic, seed


def codes_for(graph: Graph, seed: int) -> dict[str, Numbers]:
    """Codes of all inputs: random ones, the ends among them more often than not."""
    generator = np.random.default_rng(seed)
    found: dict[str, Numbers] = {}
    for value in graph.inputs:
        dtype, shape = quant_of(value).dtype, value.type.static_shape
        codes = generator.integers(dtype.min, dtype.max, shape, endpoint=True)
        ends = generator.choice(np.array([dtype.min, dtype.max]), shape)
        if generator.random() < 0.3:
            ends = np.full(shape, dtype.max)
        found[value.name] = np.where(
            generator.random(shape) < generator.choice([0.0, 0.3, 0.95]), ends, codes
        )
    return found


def difference(graph: Graph, arithmetic: str, seed: int) -> str:
    """What the fast execution and the oracle disagree on, empty when nothing."""
    codes = codes_for(graph, seed)
    wanted = oracle.run(graph, codes, arithmetic)
    feeds = {v.name: dequantize(codes[v.name], quant_of(v)).astype(np.float32) for v in graph.inputs}
    names = [value.name for value in graph.outputs]
    session = ExactSession(graph, find_profile(arithmetic), codes=names)
    _, found = session.run_codes(feeds)
    for name in names:
        if not np.array_equal(found[name], wanted[name]):
            return f"{arithmetic}, {name}: {found[name]}, not {wanted[name]}, in\n{print_graph(graph)}"
    return ""
