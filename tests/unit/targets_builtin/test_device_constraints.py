"""For every constraint of every device a node that meets it and one that does not."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import pytest

import lowtide_targets
from lowtide.ir import Node, parse_graph
from lowtide.ir.shapes import infer_types
from lowtide.plugin import Provider, Registry
from lowtide.target import Constraint, Target, check_node, load_target


@attrs.frozen
class Case:
    """A node as text, the width it is checked for and the size of its fused layer."""

    lines: str
    bits: int = 8
    layer_size: int = 1

    @property
    def node(self) -> Node:
        graph = parse_graph(f'graph "t" {{\n{self.lines}\nreturn %y\n}}')
        infer_types(graph)
        return graph.nodes[-1]


def window(
    op: str,
    *,
    kernel: tuple[int, int] = (3, 3),
    strides: tuple[int, int] = (1, 1),
    shape: tuple[int, ...] = (1, 8, 32, 32),
    more: str = "",
    constant: bool = True,
    weights: tuple[int, int] = (8, 8),
    extra: str = "",
    bits: int = 8,
) -> Case:
    """A convolution or pooling."""
    pooling = op.endswith("Pool")
    lines = f"input %x: float32[{', '.join(map(str, shape))}]\n{extra}"
    attributes = f"strides={list(strides)}{more}"
    if pooling:
        attributes += f", kernel_shape={list(kernel)}"
        return Case(f"{lines}%y: float32[*] = {op}(%x) {{{attributes}}}", bits)
    type_ = f"float32[{weights[0]}, {weights[1]}, {kernel[0]}, {kernel[1]}]"
    lines += f"const %w: {type_} = fill(0.5)\n" if constant else f"input %w: {type_}\n"
    operands = "%x, %w, %o" if op == "DeformConv" else "%x, %w"
    return Case(f"{lines}%y: float32[*] = {op}({operands}) {{{attributes}}}", bits)


def depthwise(kernel: tuple[int, int], stride: int) -> Case:
    return window("Conv", kernel=kernel, strides=(stride, stride), weights=(8, 1), more=", group=8")


def deform(kernel: int, out: int) -> Case:
    offsets = f"input %o: float32[1, {2 * kernel * kernel}, {out}, {out}]\n"
    return window("DeformConv", kernel=(kernel, kernel), extra=offsets)


def two(op: str, shape: str, other: str = "const", shape_2: str = "") -> Case:
    data = " = fill(0.5)" if other == "const" else ""
    second = f"{other} %b: float32[{shape_2 or shape}]{data}\n"
    return Case(f"input %x: float32[{shape}]\n{second}%y: float32[*] = {op}(%x, %b)")


def one(op: str, shape: str, attributes: str = "", *, layer_size: int = 1) -> Case:
    return Case(
        f"input %x: float32[{shape}]\n%y: float32[*] = {op}(%x) {{{attributes}}}", layer_size=layer_size
    )


def concat(axis: int) -> Case:
    return Case(f"input %x: float32[2, 2, 2, 2]\n%y: float32[*] = Concat(%x, %x) {{axis={axis}}}")


def clip(low: float, high: float) -> Case:
    return Case(
        f"""input %x: float32[4]
        const %l: float32[] = [{low}]
        const %h: float32[] = [{high}]
        %y: float32[*] = Clip(%x, %l, %h)"""
    )


def resize(height: float, width: float, mode: str = "linear") -> Case:
    return Case(
        f"""input %x: float32[1, 4, 8, 8]
        const %s: float32[4] = [1.0, 1.0, {height}, {width}]
        %y: float32[*] = Resize(%x, _, %s) {{mode="{mode}"}}"""
    )


def slice_(batch: int) -> Case:
    return Case(
        f"""input %x: float32[{batch}, 4, 8, 8]
        const %s: int64[1] = [0]
        const %e: int64[1] = [2]
        const %a: int64[1] = [1]
        %y: float32[*] = Slice(%x, %s, %e, %a)"""
    )


def top_k(axis: int) -> Case:
    return Case(
        f"""input %x: float32[1, 4, 8, 8]
        const %k: int64[1] = [2]
        %y: float32[*], %i: int64[*] = TopK(%x, %k) {{axis={axis}}}"""
    )


def cast(source: str) -> Case:
    return Case(f"input %x: {source}[4]\n%y: float32[*] = Cast(%x) {{to=1}}")


def split(batch: int) -> Case:
    return Case(
        f"""input %x: float32[{batch}, 4, 8, 8]
        %y: float32[*], %z: float32[*] = Split(%x) {{axis=1, num_outputs=2}}"""
    )


SEVEN, SIX, FIVE = "2, 2, 2, 2, 2, 2, 2", "2, 2, 2, 1, 2, 2, 2", "2, 2, 2, 2, 2"
CONV = window("Conv")
EQUAL = "stride_h == stride_w"
FEW = "non_singleton <= 4"
ELEMENTWISE = "non_singleton <= 6"
CONSTANT = "weights_constant"

CASES: Mapping[tuple[str, str], tuple[Case, Case]] = {
    ("Conv", CONSTANT): (CONV, window("Conv", constant=False)),
    ("Conv", FEW): (
        CONV,
        Case(
            """input %x: float32[2, 3, 4, 4, 4]
            const %w: float32[3, 3, 1, 1, 1] = fill(0.5)
            %y: float32[*] = Conv(%x, %w)"""
        ),
    ),
    ("Conv", EQUAL): (window("Conv", strides=(2, 2)), window("Conv", strides=(2, 1))),
    ("Conv", "stride_h != 4 or kernel_h == kernel_w == 11"): (
        window("Conv", kernel=(11, 11), strides=(4, 4)),
        window("Conv", kernel=(5, 5), strides=(4, 4)),
    ),
    ("Conv", "stride_h != 2 or max(kernel_h, kernel_w) <= 7"): (
        window("Conv", kernel=(7, 7), strides=(2, 2)),
        window("Conv", kernel=(1, 9), strides=(2, 2)),
    ),
    (
        "Conv",
        "not depthwise or (kernel_h == kernel_w and kernel_h in (3, 5, 7) and stride_h in (1, 2))",
    ): (depthwise((5, 5), 2), depthwise((3, 5), 1)),
    ("Conv", "not (kernel_h == kernel_w == 3 and stride_h == 3)"): (
        window("Conv", kernel=(5, 5), strides=(3, 3)),
        window("Conv", strides=(3, 3)),
    ),
    ("Conv", "max(pad_left, pad_right) <= width"): (
        window("Conv", shape=(1, 8, 32, 3), more=", pads=[0, 3, 0, 3]"),
        window("Conv", shape=(1, 8, 32, 3), more=", pads=[0, 0, 0, 4]"),
    ),
    ("ConvTranspose", CONSTANT): (
        window("ConvTranspose", kernel=(2, 2), strides=(2, 2)),
        window("ConvTranspose", kernel=(2, 2), strides=(2, 2), constant=False),
    ),
    ("ConvTranspose", "kernel_h == kernel_w and kernel_h in (2, 4)"): (
        window("ConvTranspose", kernel=(4, 4), strides=(2, 2)),
        window("ConvTranspose", kernel=(3, 3), strides=(2, 2)),
    ),
    ("ConvTranspose", "stride_h == stride_w == 2"): (
        window("ConvTranspose", kernel=(2, 2), strides=(2, 2)),
        window("ConvTranspose", kernel=(4, 4), strides=(4, 4)),
    ),
    ("ConvTranspose", "group == 1"): (
        window("ConvTranspose", kernel=(2, 2), strides=(2, 2)),
        window("ConvTranspose", kernel=(2, 2), strides=(2, 2), weights=(8, 1), more=", group=8"),
    ),
    ("ConvTranspose", "False"): (
        window("ConvTranspose", kernel=(2, 2), strides=(2, 2)),
        window("ConvTranspose", kernel=(2, 2), strides=(2, 2), bits=16),
    ),
    ("DeformConv", "kernel_h == kernel_w == 3 and stride_h == stride_w == 1"): (deform(3, 30), deform(5, 28)),
    ("Gemm", CONSTANT): (two("Gemm", "4, 4"), two("Gemm", "4, 4", "input")),
    ("MatMul", FEW): (two("MatMul", "2, 2, 4, 4", shape_2="4, 4"), two("MatMul", FIVE, shape_2="2, 2")),
    ("AveragePool", FEW): (
        window("AveragePool"),
        one("AveragePool", "2, 2, 4, 4, 4", "kernel_shape=[2, 2, 2]"),
    ),
    ("AveragePool", EQUAL): (window("AveragePool"), window("AveragePool", strides=(1, 2))),
    ("MaxPool", FEW): (window("MaxPool"), one("MaxPool", "2, 2, 4, 4, 4", "kernel_shape=[2, 2, 2]")),
    ("MaxPool", EQUAL): (window("MaxPool"), window("MaxPool", strides=(1, 2))),
    ("GlobalAveragePool", FEW): (one("GlobalAveragePool", "1, 2, 4, 4, 4"), one("GlobalAveragePool", FIVE)),
    ("GlobalAveragePool", "height * width <= 1024"): (
        one("GlobalAveragePool", "1, 8, 32, 32"),
        one("GlobalAveragePool", "1, 8, 32, 33"),
    ),
    **{
        (op, ELEMENTWISE): (two(op, SIX), two(op, SEVEN))
        for op in ("Add", "Sum", "Sub", "Mul", "Div", "Max", "Min")
    },
    ("Sub", "any(constant_inputs)"): (two("Sub", "4"), two("Sub", "4", "input")),
    ("PRelu", CONSTANT): (two("PRelu", "4"), two("PRelu", "4", "input")),
    ("Pow", CONSTANT): (two("Pow", "4"), two("Pow", "4", "input")),
    ("Clip", "clip_min <= 0 < clip_max"): (clip(0.0, 6.0), clip(-6.0, 0.0)),
    ("Erf", "layer_size > 1"): (one("Erf", "4", layer_size=5), one("Erf", "4")),
    ("Identity", "layer_size > 1 or requantizes"): (one("Identity", "4", layer_size=2), one("Identity", "4")),
    ("Dropout", "layer_size > 1"): (one("Dropout", "4", layer_size=2), one("Dropout", "4")),
    ("Softmax", "axis in (-1, -2)"): (one("Softmax", "1, 9"), one("Softmax", "1, 9, 2, 2", "axis=1")),
    ("TopK", "axis == -2"): (top_k(2), top_k(-1)),
    ("Concat", "axis in (-1, -2, -3)"): (concat(1), concat(0)),
    ("Slice", "batch == 1"): (slice_(1), slice_(2)),
    ("Split", "batch == 1"): (split(1), split(2)),
    ("Resize", "mode in ('nearest', 'linear')"): (resize(2, 2), resize(2, 2, "cubic")),
    ("Resize", "scale_h == scale_w"): (resize(2, 2), resize(2, 4)),
    ("Resize", "scale_w in (1, 2, 4, 8, 16, 32, 64)"): (resize(4, 4), resize(3, 3)),
    ("Cast", "input_dtype == output_dtype"): (cast("float32"), cast("uint8")),
}


def devices() -> dict[str, Target]:
    registry = Registry()
    registry.add_plugin(lowtide_targets, Provider("lowtide", "0", "targets"))
    return {
        name: load_target(name, registry)
        for name in ("tda4vm", "am62a", "am67a", "am68a", "am69a", "generic")
    }


DEVICES = devices()
EVERY = [
    (name, op, constraint)
    for name, target in DEVICES.items()
    for op, rule in target.operators.items()
    for constraint in rule.constraints
]


@pytest.mark.parametrize(
    ("device", "op", "constraint"), EVERY, ids=[f"{name}-{op}-{c.require}" for name, op, c in EVERY]
)
def test_every_constraint_takes_one_node_and_refuses_another(
    device: str, op: str, constraint: Constraint
) -> None:
    fits, fails = CASES[op, constraint.require]
    assert fits.node.op == fails.node.op == op
    target = DEVICES[device]
    assert check_node(target, fits.node, fits.bits, layer_size=fits.layer_size) == ()
    assert constraint in check_node(target, fails.node, fails.bits, layer_size=fails.layer_size)


def test_every_case_belongs_to_a_constraint() -> None:
    assert CASES.keys() == {(op, constraint.require) for _, op, constraint in EVERY}


@pytest.mark.parametrize(
    ("case", "refused"),
    [
        (window("Conv", strides=(3, 3)), {"am62a", "am67a"}),
        (window("Conv", shape=(1, 8, 32, 3), more=", pads=[0, 0, 0, 4]"), {"am62a", "am67a"}),
        (window("ConvTranspose", kernel=(2, 2), strides=(2, 2), bits=16), {"am62a", "am67a"}),
        (window("Conv", strides=(2, 1)), set(DEVICES) - {"generic"}),
        (CONV, set[str]()),
    ],
)
def test_devices_differ_where_the_vendor_says_so(case: Case, refused: set[str]) -> None:
    assert {name for name, target in DEVICES.items() if check_node(target, case.node, case.bits)} == refused
