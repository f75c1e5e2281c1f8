"""Ranges that training left in a network as clips."""

from __future__ import annotations

import numpy as np
import pytest

import lowtide
from lowtide.errors import DataError, OptionError
from lowtide.ir import Constant, Graph, parse_graph
from lowtide.plugin import discover

REGISTRY = discover()


def trained(*, last: str = "-16.0", clip_input: bool = True) -> Graph:
    """Convolutions and a sum behind signed and unsigned clips, as training with learned clips leaves them."""
    start = "%x0: float32[1, 2, 4, 4] = Clip(%x, %m2, %p2)" if clip_input else ""
    read = "%x0" if clip_input else "%x"
    return parse_graph(f"""graph "trained" {{
  input %x: float32[1, 2, 4, 4]
  const %w: float32[2, 2, 1, 1] = [0.5, -0.25, 0.75, 0.125]
  const %m2: float32[] = [-2.0]
  const %p2: float32[] = [2.0]
  const %zero: float32[] = [0.0]
  const %p4: float32[] = [4.0]
  const %low: float32[] = [{last}]
  const %p16: float32[] = [16.0]
  {start}
  %c1: float32[1, 2, 4, 4] = Conv({read}, %w)
  %a1: float32[1, 2, 4, 4] = Clip(%c1, %zero, %p4)
  %c2: float32[1, 2, 4, 4] = Conv(%a1, %w)
  %a2: float32[1, 2, 4, 4] = Clip(%c2, %low, %p16)
  %p: float32[1, 2, 2, 2] = MaxPool(%a2) {{kernel_shape=[2, 2], strides=[2, 2]}}
  %s: float32[1, 2, 2, 2] = Sigmoid(%p)
  return %s
}}
""")


def compile_trained(graph: Graph, **options: object) -> lowtide.CompileResult:
    data = options.pop("data", None)
    return lowtide.compile(graph, target="tda4vm", data=data, options=dict(options), registry=REGISTRY)


def test_clips_everywhere_make_calibration_needless() -> None:
    result = compile_trained(trained())
    ranges = {name: (found.min, found.max) for name, found in result.ranges.items()}
    assert ranges["a1"] == (0.0, 4.0)
    assert ranges["a2"] == (-16.0, 16.0)
    assert result.report.ranges_from == "clips of the network"
    assert result.report.calibration is None


def test_what_moves_codes_or_is_bounded_follows_and_an_input_needs_what_its_clip_lets_through() -> None:
    ranges = compile_trained(trained()).ranges
    assert (ranges["p"].min, ranges["p"].max) == (-16.0, 16.0)
    assert (ranges["s"].min, ranges["s"].max) == (0.0, 1.0)
    assert (ranges["x"].min, ranges["x"].max) == (-2.0, 2.0)


def test_scales_are_powers_of_two_that_hold_the_clips() -> None:
    graph = compile_trained(trained()).graph
    scales = {name: value.type.quant.scale[0] for name, value in graph.values.items() if value.type.quant}
    assert scales["a1"] == 4 / 256
    assert scales["a2"] == 16 / 128


def test_the_range_of_an_input_without_a_clip_follows_from_mean_and_scale() -> None:
    options = {"input_mean": [128.0, 128.0], "input_scale": [1 / 64, 1 / 64]}
    found = compile_trained(trained(clip_input=False), **options).ranges["x"]
    assert (found.min, found.max) == pytest.approx((-2.0, 127 / 64))


@pytest.mark.parametrize(
    ("end", "shown"), [(-4.0, "a1 0 to -4"), (0.0, "a1 0 to 0"), (np.nan, "a1 0 to nan")]
)
def test_a_clip_whose_limits_are_no_range_is_named(end: float, shown: str) -> None:
    graph = trained()
    graph.set_constant(graph.values["p4"], Constant.of(np.array(end, np.float32)))
    frames = np.linspace(-1, 1, 5 * 32, dtype=np.float32).reshape(5, 1, 2, 4, 4)
    result = compile_trained(graph, data=frames, prequantized_model=1)
    (note,) = (entry for entry in result.report.diagnostics if entry.code == "LT863")
    assert f"limits that are no range: {shown}" in note.message


def test_a_tensor_that_no_clip_covers_needs_frames() -> None:
    with pytest.raises(DataError, match=r"no known range for 1 tensor: x .*input_mean and input_scale"):
        compile_trained(trained(clip_input=False))
    frames = np.linspace(-1, 1, 5 * 32, dtype=np.float32).reshape(5, 1, 2, 4, 4)
    result = compile_trained(trained(clip_input=False), data=frames)
    assert (result.ranges["x"].min, result.ranges["x"].max) == (-1.0, 1.0)
    assert (result.ranges["a2"].min, result.ranges["a2"].max) == (-16.0, 16.0)


def test_relu6_alone_is_no_sign_of_training() -> None:
    with pytest.raises(DataError, match="no known range"):
        compile_trained(trained(last="0.0", clip_input=False))


def test_the_option_takes_whatever_clips_there_are() -> None:
    frames = np.linspace(-1, 1, 5 * 32, dtype=np.float32).reshape(5, 1, 2, 4, 4)
    graph = trained(last="0.0", clip_input=False)
    result = compile_trained(graph, data=frames, prequantized_model=1)
    assert (result.ranges["a2"].min, result.ranges["a2"].max) == (0.0, 16.0)


def test_recalibrate_measures_them_instead() -> None:
    frames = np.linspace(-1, 1, 5 * 32, dtype=np.float32).reshape(5, 1, 2, 4, 4)
    result = compile_trained(trained(), data=frames, recalibrate="data")
    assert result.ranges["a1"].max < 4.0
    assert result.report.ranges_from == ""


def test_a_model_without_codes_and_clips_is_no_prequantized_one() -> None:
    graph = parse_graph("""graph "plain" {
  input %x: float32[1, 2]
  %y: float32[1, 2] = Relu(%x)
  return %y
}
""")
    with pytest.raises(OptionError, match="neither QuantizeLinear"):
        compile_trained(graph, prequantized_model=1)
