"""The text form: round trips, and what is said about text that is none."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowtide.errors import LowtideError, ModelError
from lowtide_plugins.tidl_proto.records import (
    LARGEST,
    CalibType,
    LayerParams,
    NetParams,
    QuantType,
    TensorParams,
)
from lowtide_plugins.tidl_proto.text import parse, print_net, read

floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
doubles = st.floats(allow_nan=False, allow_infinity=False)
codes = st.integers(0, 2**32 - 1)
tensors = st.builds(
    TensorParams,
    min=floats32,
    max=floats32,
    size=codes,
    element_type=codes,
    scale=st.lists(doubles, max_size=4).map(tuple),
    zero_point=st.lists(codes, max_size=4).map(tuple),
    value=st.lists(doubles, max_size=4).map(tuple),
)
names = st.text(st.characters(codec="utf-8"), max_size=20)
some = st.lists(tensors, max_size=2).map(tuple)
layers = st.builds(
    LayerParams,
    layer_name=names,
    layer_type=names,
    bit_depth=codes,
    outputs=some,
    weights=some,
    bias=some,
    slope=some,
)
nets = st.builds(
    NetParams,
    num_layers=st.integers(-(2**31), 2**31 - 1),
    quant_type=st.sampled_from(QuantType),
    calib_type=st.sampled_from(CalibType),
    layers=st.lists(layers, max_size=3).map(tuple),
)

EXAMPLE = """
num_layers: 1
quant_type: SYMMETRIC
layers {
  layer_name: "stem"
  layer_type: "TIDL_ConvolutionLayer"
  bit_depth: 1
  outputs { min: 0 max: 4.5 size: 1 element_type: 0 scale: 56.5 zero_point: 0 }
}
"""


@given(nets)
def test_what_is_printed_is_read_back_as_it_was(net: NetParams) -> None:
    assert parse(print_net(net), "file") == net


def test_what_is_left_out_has_the_published_defaults() -> None:
    (layer,) = parse('layers { layer_name: "a" outputs { } }', "file").layers
    assert layer.bit_depth == 8
    assert layer.outputs == (TensorParams(),)
    assert (TensorParams().min, TensorParams().max) == (-LARGEST, LARGEST)


def test_several_entries_may_be_written_as_a_list() -> None:
    (layer,) = parse('layers { layer_name: "a" bias { value: [1, 2.5] value: 3 } }', "file").layers
    assert layer.bias[0].value == (1.0, 2.5, 3.0)


def test_an_unknown_field_is_named_with_line_column_and_the_nearest_one() -> None:
    with pytest.raises(ModelError, match=r"file:5:3.*layer_naem.*layer_name"):
        parse(EXAMPLE.replace("layer_name", "layer_naem"), "file")


@pytest.mark.parametrize("word", ["FLT_MAX", "-FLT_MAX", "FLT_MIN"])
def test_the_words_for_not_calibrated_are_explained(word: str) -> None:
    with pytest.raises(ModelError, match=r"file:8:.*not calibrated.*calibrate anew"):
        parse(EXAMPLE.replace("max: 4.5", f"max: {word}"), "file")


@pytest.mark.parametrize(
    "text", ["layers {", "num_layers: many", "}", "layers: 3", 'layer_name: "x', "\0", "[" * 5000]
)
def test_text_that_is_no_proto_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(ModelError, match="file"):
        parse(text, "file")


def test_an_unsigned_field_takes_no_negative_number() -> None:
    with pytest.raises(ModelError, match="8:"):
        parse(EXAMPLE.replace("zero_point: 0", "zero_point: -3"), "file")


def test_a_file_that_is_no_text_or_not_there_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "a.prototxt"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match=r"a\.prototxt.*is no text"):
        read(binary)
    with pytest.raises(ModelError, match=r"b\.prototxt.*cannot be read"):
        read(tmp_path / "b.prototxt")


@settings(max_examples=300)
@given(st.data())
def test_damaged_text_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    text = print_net(parse(EXAMPLE, "file"))
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 12))
    put = data.draw(st.text(st.characters(codec="utf-8"), max_size=6))
    try:
        parse(text[:at] + put + text[at + cut :], "file")
    except LowtideError as error:
        assert "file" in error.place  # noqa: PT017 - both outcomes are right


@pytest.mark.real
def test_the_published_example_has_the_arithmetic_that_we_take_from_it() -> None:
    root = os.environ.get("LOWTIDE_REAL_DATA")
    if not root:
        pytest.skip("LOWTIDE_REAL_DATA names no folder")
    net = read(Path(root) / "tidl" / "sample_quant_params.prototxt")
    data, convolution = net.layers
    weights, output, bias = convolution.weights[0], convolution.outputs[0], convolution.bias[0]
    assert weights.scale[0] == pytest.approx(128 / weights.max, rel=1e-7)
    assert output.scale[0] * 2**8 == data.outputs[0].scale[0] * weights.scale[0]
    assert len(bias.value) == bias.size == 3
    for name in ("sample_invalid_0.prototxt", "sample_invalid_1.prototxt"):
        with pytest.raises(ModelError, match=name):
            read(Path(root) / "tidl" / name)


def test_numbers_keep_every_bit_of_float32() -> None:
    wanted = float(np.float32(0.1))
    net = NetParams(layers=(LayerParams(layer_name="a", outputs=(TensorParams(min=-wanted, max=wanted),)),))
    assert parse(print_net(net), "file").layers[0].outputs[0].max == wanted
