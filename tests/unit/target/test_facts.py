from __future__ import annotations

import math

import pytest

from lowtide.ir import Node, parse_graph
from lowtide.ir.shapes import infer_types
from lowtide.target import FACTS, node_facts


def node(text: str) -> Node:
    graph = parse_graph(f'graph "t" {{\n{text}\nreturn %y\n}}')
    infer_types(graph)
    return graph.nodes[-1]


CONV = node(
    """input %x: float32[1, 8, 20, 30]
    const %w: float32[8, 1, 3, 5] = fill(0.5)
    %y: float32[*] = Conv(%x, %w) {group=8, strides=[2, 1], dilations=[1, 2], pads=[1, 2, 3, 4]}"""
)


def test_the_facts_of_a_convolution_are_those_of_its_attributes_and_shapes() -> None:
    facts = node_facts(CONV)
    expected = {
        "op": "Conv",
        "kernel_h": 3,
        "kernel_w": 5,
        "stride_h": 2,
        "stride_w": 1,
        "dilation_h": 1,
        "dilation_w": 2,
        "pad_top": 1,
        "pad_left": 2,
        "pad_bottom": 3,
        "pad_right": 4,
        "group": 8,
        "depthwise": True,
        "batch": 1,
        "channels_in": 8,
        "channels_out": 8,
        "height": 20,
        "width": 30,
        "out_height": 11,
        "out_width": 28,
        "rank": 4,
        "shape": (1, 8, 20, 30),
        "elements": 4800,
        "non_singleton": 3,
        "weights_constant": True,
        "constant_inputs": (False, True),
        "inputs": 2,
        "outputs": 1,
        "layer_size": 1,
        "input_dtype": "float32",
        "output_dtype": "float32",
        "axis": None,
        "clip_min": None,
        "perm": None,
        "scales": None,
        "mode": None,
    }
    assert expected.items() <= facts.items()


def test_every_node_has_every_fact_and_no_other() -> None:
    assert node_facts(CONV).keys() == FACTS.keys()


def test_every_fact_is_of_the_kind_that_the_table_says() -> None:
    kinds: dict[str, tuple[type, ...]] = {"number": (int, float), "truth": (bool,), "text": (str,)}
    for name, value in node_facts(CONV).items():
        kind = FACTS[name][0]
        if kind.endswith("*"):
            assert value is None or (
                isinstance(value, tuple) and all(isinstance(entry, kinds[kind[:-1]]) for entry in value)
            )
        else:
            assert value is None or isinstance(value, kinds[kind])


def test_a_one_dimensional_convolution_has_no_height() -> None:
    made = node_facts(
        node(
            """input %x: float32[1, 4, 30]
            const %w: float32[8, 4, 5] = fill(0.5)
            %y: float32[*] = Conv(%x, %w) {strides=[2]}"""
        )
    )
    assert (made["kernel_h"], made["kernel_w"], made["stride_h"], made["stride_w"]) == (None, 5, None, 2)
    assert (made["height"], made["width"], made["out_width"]) == (None, 30, 13)
    assert made["depthwise"] is False


def test_groups_of_several_channels_are_not_depthwise_and_weights_count_no_dimensions() -> None:
    facts = node_facts(
        node(
            """input %x: float32[1, 8, 6, 6]
            const %w: float32[4, 4, 3, 3] = fill(0.5)
            %y: float32[*] = Conv(%x, %w) {group=2}"""
        )
    )
    assert (facts["group"], facts["depthwise"], facts["non_singleton"]) == (2, False, 3)


def test_small_ranks_have_no_batch_and_no_plane() -> None:
    facts = node_facts(node("input %x: float32[5, 7]\n%y: float32[*] = Relu(%x)"))
    assert (facts["batch"], facts["height"], facts["width"], facts["rank"]) == (None, None, None, 2)


def test_an_open_dimension_leaves_the_facts_that_need_it_without_meaning() -> None:
    facts = node_facts(node("input %x: float32[?, 4, 30, 30]\n%y: float32[*] = Relu(%x)"))
    assert (facts["shape"], facts["elements"], facts["batch"], facts["non_singleton"]) == (None,) * 4
    assert (facts["channels_in"], facts["height"], facts["rank"]) == (4, 30, 4)


def test_automatic_padding_is_not_known() -> None:
    text = """input %x: float32[1, 1, 8, 8]
    %y: float32[*] = MaxPool(%x) {kernel_shape=[3, 3], auto_pad="SAME_UPPER"}"""
    assert node_facts(node(text))["pad_left"] is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [("Softmax(%x)", -1), ("Softmax(%x) {axis=1}", -3), ("Softmax(%x) {axis=-2}", -2), ("Flatten(%x)", -3)],
)
def test_an_axis_counts_from_the_end(line: str, expected: int) -> None:
    made = node(f"input %x: float32[1, 4, 5, 6]\n%y: float32[*] = {line}")
    assert node_facts(made)["axis"] == expected


@pytest.mark.parametrize(
    ("operands", "expected"),
    [
        ("%x, %low, %high", (-1.0, 6.0)),
        ("%x, %low", (-1.0, math.inf)),
        ("%x, _, %high", (-math.inf, 6.0)),
        ("%x, %free, %high", (None, 6.0)),
    ],
)
def test_the_bounds_of_clip_are_infinite_when_left_out_and_unknown_when_computed(
    operands: str, expected: tuple[float | None, float]
) -> None:
    facts = node_facts(
        node(
            f"""input %x: float32[1, 4]
            input %free: float32[]
            const %low: float32[] = [-1.0]
            const %high: float32[] = [6.0]
            %y: float32[*] = Clip({operands})"""
        )
    )
    assert (facts["clip_min"], facts["clip_max"]) == expected


@pytest.mark.parametrize(
    ("consts", "line"),
    [
        ("const %s: float32[4] = [1.0, 1.0, 2.0, 4.0]", "Resize(%x, _, %s)"),
        ("const %s: float32[2] = [2.0, 4.0]", "Resize(%x, _, %s) {axes=[2, 3]}"),
        ("const %s: float32[2] = [4.0, 2.0]", "Resize(%x, _, %s) {axes=[-1, -2]}"),
        ("const %s: int64[4] = [1, 3, 16, 32]", "Resize(%x, _, _, %s)"),
    ],
)
def test_resize_has_factors_however_they_are_given(consts: str, line: str) -> None:
    facts = node_facts(node(f"input %x: float32[1, 3, 8, 8]\n{consts}\n%y: float32[*] = {line}"))
    assert facts["scales"] == (1.0, 1.0, 2.0, 4.0)
    assert (facts["scale_h"], facts["scale_w"], facts["mode"]) == (2.0, 4.0, "nearest")


def test_matrix_products_have_their_channels_last() -> None:
    facts = node_facts(
        node(
            """input %x: float32[1, 7, 16]
            const %w: float32[16, 10] = fill(0.5)
            %y: float32[*] = MatMul(%x, %w)"""
        )
    )
    assert (facts["channels_in"], facts["channels_out"]) == (16, 10)


def test_transpose_has_an_order_even_when_it_is_left_out() -> None:
    assert node_facts(node("input %x: float32[2, 3, 4]\n%y: float32[*] = Transpose(%x)"))["perm"] == (2, 1, 0)


def test_reductions_tell_whether_they_keep_dimensions() -> None:
    made = node("input %x: float32[2, 3]\n%y: float32[*] = ReduceMax(%x) {keepdims=0}")
    assert node_facts(made)["keepdims"] is False
