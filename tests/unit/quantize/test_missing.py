"""Scales that quantized networks leave out."""

from __future__ import annotations

import numpy as np
import pytest

from lowtide.calibrate import Range
from lowtide.ir import Graph, QuantParams
from lowtide.quantize.missing import Inferred, borrowed_ranges, infer_missing
from unit.quantize.quantized import AM68A, TDA4VM, feeds, network, outputs, request
from unit.quantize.solving import quant

CODES = QuantParams("uint8", 0.5, 3)


def inferred(body: str) -> tuple[Graph, Inferred]:
    graph = network(body)
    return graph, infer_missing(graph, request(graph, AM68A))


def test_what_moves_codes_hands_them_on_as_far_as_it_goes() -> None:
    graph, found = inferred("""
    input %x: float32[1, 1, 4, 4] ~ uint8(scale=0.5, zero=3)
    const %s: int64[2] = [1, 4]
    %p: float32[1, 1, 2, 2] = MaxPool(%x) {kernel_shape=[2, 2], strides=[2, 2]}
    %r: float32[1, 4] = Reshape(%p, %s)
    %y: float32[1, 4] ~ uint8(scale=1) = Sigmoid(%r)
    return %y
    """)
    assert quant(graph, "p") == quant(graph, "r") == CODES
    assert found.from_others == {"p": "x", "r": "p"}
    assert not found.ranges
    assert not found.open


@pytest.mark.parametrize("op", ["AveragePool(%x) {kernel_shape=[2, 2]}", "GlobalAveragePool(%x)", "Relu(%x)"])
def test_an_operator_within_its_input_takes_its_codes(op: str) -> None:
    shape = "2, 2" if "Relu" in op else "1, 1"
    graph, found = inferred(f"""
    input %x: float32[1, 1, 2, 2] ~ uint8(scale=0.5, zero=3)
    %y: float32[1, 1, {shape}] = {op}
    return %y
    """)
    assert quant(graph, "y") == CODES
    assert found.from_others == {"y": "x"}


def test_an_input_takes_the_codes_that_all_its_readers_make_of_it() -> None:
    body = """
    input %x: float32[1, 4]
    const %s: int64[2] = [2, 2]
    const %t: int64[2] = [4, 1]
    %a: float32[2, 2] ~ uint8(scale=0.5, zero=3) = Reshape(%x, %s)
    %b: float32[4, 1] ~ {other} = Reshape(%x, %t)
    return %a, %b
    """
    graph, found = inferred(body.format(other="uint8(scale=0.5, zero=3)"))
    assert quant(graph, "x") == CODES
    assert found.from_others == {"x": "a"}
    feed = feeds(graph)
    before = outputs(network(body.format(other="uint8(scale=0.5, zero=3)")), feed)
    assert all(map(np.array_equal, outputs(graph, feed), before))
    assert inferred(body.format(other="uint8(scale=0.5, zero=4)"))[1].open == ("x",)


def test_a_conversion_to_integers_at_the_end_tells_the_codes_of_what_it_reads() -> None:
    body = """
    input %x: float32[1, 4] ~ int8(scale=0.5)
    const %s: float32[] = [0.25]
    const %z: int8[] = [7]
    %a: float32[1, 4] = HardSwish(%x)
    %y: int8[1, 4] = QuantizeLinear(%a, %s, %z)
    return %y
    """
    graph, found = inferred(body)
    assert quant(graph, "a") == QuantParams("int8", 0.25, 7)
    assert found.from_others == {"a": "y"}
    feed = feeds(graph)
    assert np.array_equal(outputs(graph, feed)[0], outputs(network(body), feed)[0])
    assert inferred(body.replace("return %y", "return %y, %a"))[1].open == ("a",)
    unknown = body.replace("const %s: float32[] = [0.25]", "input %s: float32[]")
    assert inferred(unknown)[1].open == ("a",)


def test_a_part_of_a_tensor_says_nothing_of_the_whole() -> None:
    body = """
    input %x: float32[1, 4]
    const %n: int64[2] = [2, 2]
    %a: float32[1, 2] ~ uint8(scale=0.5, zero=3), %b: float32[1, 2]{codes} = Split(%x, %n) {{axis=1}}
    return %a, %b
    """
    _, found = inferred(body.format(codes=""))
    assert found.open == ("x", "b")
    graph, known = inferred(body.format(codes=" ~ uint8(scale=0.5, zero=3)"))
    assert quant(graph, "x") == CODES
    assert not known.open


def test_what_others_read_without_codes_is_left_alone() -> None:
    body = """
    input %x: float32[1, 4]
    const %s: int64[2] = [2, 2]
    %a: float32[2, 2] ~ uint8(scale=0.5, zero=3) = Reshape(%x, %s)
    %b: float32[1, 4] ~ uint8(scale=0.5) = Relu(%x)
    return %a, %b
    """
    assert inferred(body)[1].open == ("x",)
    returned = body.replace("%b: float32[1, 4] ~ uint8(scale=0.5) = Relu(%x)", "").replace(", %b", "")
    returned = returned.replace(
        "input %x: float32[1, 4]", "input %i: float32[1, 4]\n%x: float32[1, 4] = Tanh(%i)"
    )
    _, found = inferred(returned.replace("return %a", "return %a, %x"))
    assert found.open == ("i",)
    assert set(found.ranges) == {"x"}


def test_a_concat_takes_the_codes_that_all_its_inputs_have() -> None:
    body = """
    input %x: float32[1, 2] ~ uint8(scale=0.5, zero=3)
    input %z: float32[1, 2] ~ {other}
    %y: float32[1, 4] = Concat(%x, %z) {{axis=1}}
    return %y
    """
    graph, _ = inferred(body.format(other="uint8(scale=0.5, zero=3)"))
    assert quant(graph, "y") == CODES
    assert inferred(body.format(other="uint8(scale=0.25, zero=3)"))[1].open == ("y",)


@pytest.mark.parametrize(
    ("op", "limits"),
    [
        ("Sigmoid(%x)", Range(0, 1)),
        ("HardSigmoid(%x)", Range(0, 1)),
        ("Tanh(%x)", Range(-1, 1)),
        ("Clip(%x, %low, %high)", Range(-2, 6)),
        ("Clip(%x, %low, %open)", None),
        ("Clip(%x, _, %high)", None),
        ("Clip(%x, %low)", None),
    ],
)
def test_an_operator_with_limits_gives_a_range(op: str, limits: Range | None) -> None:
    _, found = inferred(f"""
    input %x: float32[1, 2] ~ int8(scale=0.5)
    const %low: float32[] = [-2]
    const %high: float32[] = [6]
    const %open: float32[] = [3.4e38]
    %y: float32[1, 2] = {op}
    return %y
    """)
    assert found.ranges == ({"y": limits} if limits else {})
    assert found.open == (() if limits else ("y",))


def test_what_follows_from_nothing_is_open_in_executable_order() -> None:
    graph, found = inferred("""
    input %x: float32[1, 2]
    const %c: float32[2] = [1, 2]
    %a: float32[1, 2] = Mul(%x, %c)
    %y: float32[1, 2] ~ int8(scale=0.5) = Add(%a, %c)
    return %y
    """)
    assert found == Inferred(open=("x", "a"))
    assert graph.values["x"].type.quant is None


def test_what_the_device_fuses_or_leaves_to_the_host_needs_no_scale() -> None:
    graph = network("""
    input %x: float32[1, 1, 2, 2] ~ int8(scale=0.5)
    const %w: float32[1, 1, 1, 1] ~ int8(scale=0.5) = [2]
    %a: float32[1, 1, 2, 2] = Conv(%x, %w) layer "y"
    %y: float32[1, 1, 2, 2] ~ uint8(scale=0.5) = Relu(%a) layer "y"
    %z: float32[1, 1, 2, 2] = Round(%y)
    return %z
    """)
    assert infer_missing(graph, request(graph, TDA4VM)) == Inferred()
    assert graph.values["a"].type.quant is None


def test_an_average_in_the_codes_of_its_input_borrows_its_range_and_so_does_what_follows() -> None:
    graph = network("""
    input %x: float32[1, 1, 2, 2]
    const %s: int64[2] = [1, 1]
    %p: float32[1, 1, 1, 1] = GlobalAveragePool(%x)
    %r: float32[1, 1] = Reshape(%p, %s)
    %y: float32[1, 1] = Sigmoid(%r)
    return %y
    """)
    same = dict.fromkeys(("x", "p", "r"), Range(0, 6))
    assert borrowed_ranges(graph, {**same, "y": Range(0, 1)}) == ("p", "r")
    assert borrowed_ranges(graph, {**same, "p": Range(0, 2), "r": Range(0, 2)}) == ()
    assert borrowed_ranges(graph, {}) == ()
