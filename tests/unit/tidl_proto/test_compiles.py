"""Protos of compiled networks: written, read again, checked strictly, compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

import lowtide
from lowtide.errors import DataError, QuantizationError
from lowtide.ir import QuantParams
from lowtide.plugin import discover
from lowtide_plugins.tidl_proto.build import build
from lowtide_plugins.tidl_proto.compare import differences
from lowtide_plugins.tidl_proto.records import LARGEST, CalibType, LayerParams, NetParams, QuantType
from lowtide_plugins.tidl_proto.text import print_net, read
from support import CALIBRATION, MODEL

REGISTRY = discover()
Change = Callable[[NetParams], NetParams]

WAYS: list[tuple[str, dict[str, object]]] = [
    ("tda4vm", {"quantization_scale_type": 0}),
    ("tda4vm", {"quantization_scale_type": 1}),
    ("tda4vm", {"quantization_scale_type": 1, "channel_wise_quantization": 1}),
    ("tda4vm", {"tensor_bits": 16}),
    ("am68a", {}),
    ("am62a", {"tensor_bits": 16}),
]


def compiled(
    target: str, options: Mapping[str, object], *, model: Path | str = MODEL, data: object = CALIBRATION
) -> lowtide.CompileResult:
    given = str(data) if data is not None else None
    return lowtide.compile(model, target=target, data=given, options=options, registry=REGISTRY)


def codes(result: lowtide.CompileResult) -> dict[str, object]:
    return {name: (value.type, value.constant) for name, value in result.graph.values.items()}


@pytest.mark.parametrize(("target", "options"), WAYS)
def test_write_read_compile_gives_identical_codes(
    target: str, options: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "quant_params.prototxt"
    named = {**options, "quant_params_proto_path": str(path)}
    first = compiled(target, named)
    assert path.is_file()
    # The format has no place for weights: those that a pass chose are in the network beside it.
    second = compiled(target, named, model=path.with_suffix(".onnx"), data=None)
    assert codes(second) == codes(first)
    assert "LT866" not in {entry.code for entry in second.report.diagnostics}
    assert second.report.ranges_from == str(path)
    assert second.report.calibration is None


def test_weights_that_the_proto_was_not_made_for_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "quant_params.prototxt"
    named = {"quant_params_proto_path": str(path), "condition": "equalize"}
    compiled("tda4vm", named)
    second = compiled("tda4vm", named, data=None)
    found = [entry for entry in second.report.diagnostics if entry.code == "LT866"]
    assert found
    assert all(str(path.with_suffix(".onnx")) in entry.hint for entry in found)


def test_a_file_that_exists_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "quant_params.prototxt"
    compiled("tda4vm", {"quant_params_proto_path": str(path)})
    before = path.read_bytes()
    compiled("tda4vm", {"quant_params_proto_path": str(path)}, data=None)
    assert path.read_bytes() == before


def test_the_file_lists_what_is_read_from_outside_and_then_every_layer() -> None:
    result = compiled("tda4vm", {})
    (net,) = build(result)
    assert net.layers[0].layer_type == "TIDL_DataLayer"
    assert net.layers[0].layer_name == "image"
    assert [layer.layer_name for layer in net.layers[1:]] == [layer.name for layer in result.report.layers]
    assert net.num_layers == len(net.layers)
    assert (net.quant_type, net.calib_type) == (QuantType.SYMMETRIC, CalibType.PERTENSOR)


def test_an_output_scale_is_input_times_weight_scale_by_a_power_of_two_where_only_shifts_exist() -> None:
    (net,) = build(compiled("tda4vm", {"quantization_scale_type": 0}))
    data, stem = net.layers[:2]
    ratio = data.outputs[0].scale[0] * stem.weights[0].scale[0] / stem.outputs[0].scale[0]
    assert ratio == pytest.approx(2.0 ** round(math.log2(ratio)), rel=1e-6)


def test_zero_points_and_channels_are_written_in_the_fields_that_exist() -> None:
    (net,) = build(compiled("am68a", {}))
    assert (net.quant_type, net.calib_type) == (QuantType.ASYMMETRIC, CalibType.PERCHANNEL)
    stem = net.layers[1]
    assert stem.weights[0].size == len(stem.weights[0].scale) == 16


def test_widths_are_counted_in_bytes() -> None:
    (net,) = build(compiled("tda4vm", {"tensor_bits": 16}))
    assert {layer.bit_depth for layer in net.layers} == {2}


def test_a_device_of_another_maker_gets_no_proto(tmp_path: Path) -> None:
    compiled("generic", {}).save(tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.prototxt"))


# --- what does not fit ---


def replaced(position: int, **changes: Any) -> Change:
    def change(net: NetParams) -> NetParams:
        layers = list(net.layers)
        layers[position] = attrs.evolve(layers[position], **changes)
        return attrs.evolve(net, layers=tuple(layers))

    return change


def tensor(position: int, field: str, **changes: Any) -> Change:
    def change(net: NetParams) -> NetParams:
        (old, *others) = getattr(net.layers[position], field)
        new = (attrs.evolve(old, **changes), *others)
        return replaced(position, **{field: new})(net)

    return change


def without(position: int) -> Change:
    def change(net: NetParams) -> NetParams:
        layers = tuple(layer for at, layer in enumerate(net.layers) if at != position)
        return attrs.evolve(net, layers=layers, num_layers=len(layers))

    return change


def added(net: NetParams) -> NetParams:
    layers = (*net.layers, LayerParams(layer_name="stem/relu7"))
    return attrs.evolve(net, layers=layers, num_layers=len(layers))


def doubled(net: NetParams) -> NetParams:
    layers = (*net.layers, net.layers[1])
    return attrs.evolve(net, layers=layers, num_layers=len(layers))


CASES: list[tuple[str, Change, str]] = [
    ("a missing layer", without(3), "layer .*is not in the file"),
    ("an unknown layer", added, "stem/relu7.*no such layer.*stem/relu6"),
    ("a layer twice", doubled, "layer stem/relu6: occurs 2 times"),
    ("another type", replaced(1, layer_type="TIDL_PoolingLayer"), "stem/relu6.*TIDL_PoolingLayer.*TIDL_Conv"),
    ("bits for bytes", replaced(1, bit_depth=8), "stem/relu6: bit_depth is 8"),
    ("no output", replaced(1, outputs=()), "stem/relu6, outputs: 0 of 1"),
    ("no weights", replaced(1, weights=()), "stem/relu6, weights: 0 of 1"),
    ("no bias", replaced(1, bias=()), "stem/relu6, bias: 0 of 1"),
    (
        "a minimum never set",
        tensor(1, "outputs", min=-LARGEST),
        r"stem/relu6, outputs\[0\]: min was never set",
    ),
    ("a maximum never set", tensor(1, "weights", max=LARGEST), "stem/relu6, weights: max was never set"),
    ("not a number", tensor(1, "outputs", max=float("nan")), r"stem/relu6, outputs\[0\]: max is nan"),
    ("an inverted range", tensor(1, "outputs", min=5.0, max=1.0), r"outputs\[0\]: min 5 is above max 1"),
    ("a scale of zero", tensor(1, "weights", scale=(0.0,)), "stem/relu6, weights: a scale is 0"),
    ("too many scales", tensor(1, "weights", scale=(1.0, 2.0)), "weights: 2 entries of scale, expected 1"),
    ("a bias too short", tensor(1, "bias", value=(1.0,)), "stem/relu6, bias: 1 entry of value, size is 16"),
    ("a bias of another size", tensor(1, "bias", size=3), "stem/relu6, bias: size is 3.*16 channels"),
    (
        "zero points",
        lambda net: attrs.evolve(net, quant_type=QuantType.ASYMMETRIC),
        "quant_type is ASYMMETRIC",
    ),
    ("a wrong count", lambda net: attrs.evolve(net, num_layers=3), "num_layers says 3"),
]


@pytest.mark.parametrize(("change", "message"), [pytest.param(c, m, id=name) for name, c, m in CASES])
def test_what_does_not_fit_the_network_is_named_and_nothing_is_calibrated_instead(
    change: Change, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "quant_params.prototxt"
    options = {"quant_params_proto_path": str(path)}
    compiled("tda4vm", options)
    path.write_text(print_net(change(read(path))), "utf-8")
    with pytest.raises(QuantizationError, match=message):
        compiled("tda4vm", options)


def test_what_is_missing_is_calibrated_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "quant_params.prototxt"
    options: dict[str, object] = {"quant_params_proto_path": str(path)}
    first = compiled("tda4vm", options)
    path.write_text(print_net(without(3)(read(path))), "utf-8")
    options["proto_incomplete"] = "calibrate"
    second = compiled("tda4vm", options)
    assert [found.code for found in second.report.diagnostics if found.code == "LT865"]
    before, after = scales(first), scales(second)
    assert before.keys() == after.keys()
    # The first compile had scaled channels before it calibrated, which known ranges forbid.
    assert len({name for name, found in after.items() if found.scale != before[name].scale}) <= 1
    with pytest.raises(DataError, match="no known range"):
        compiled("tda4vm", options, data=None)


def scales(result: lowtide.CompileResult) -> dict[str, QuantParams]:
    activations = [value for node in result.graph for value in node.outputs]
    return {value.name: value.type.quant for value in activations if value.type.quant}


def test_what_is_wrong_stops_the_compile_also_then(tmp_path: Path) -> None:
    path = tmp_path / "quant_params.prototxt"
    options: dict[str, object] = {"quant_params_proto_path": str(path), "proto_incomplete": "calibrate"}
    compiled("tda4vm", options)
    path.write_text(print_net(tensor(1, "weights", scale=(-1.0,))(read(path))), "utf-8")
    with pytest.raises(QuantizationError, match="scales are positive"):
        compiled("tda4vm", options)


def test_the_range_decides_where_it_contradicts_the_scale(tmp_path: Path) -> None:
    path = tmp_path / "quant_params.prototxt"
    options: dict[str, object] = {"quant_params_proto_path": str(path)}
    first = compiled("tda4vm", options)
    net = read(path)
    weights = net.layers[1].weights[0]
    wider = tensor(1, "weights", min=4 * weights.min, max=4 * weights.max)(net)
    path.write_text(print_net(wider), "utf-8")
    second = compiled("tda4vm", options, data=None)
    assert [found.code for found in second.report.diagnostics if found.code == "LT864"]

    def scale(result: lowtide.CompileResult) -> float:
        quant = result.graph.nodes[0].value(1).type.quant
        assert quant is not None
        return quant.scale[0]

    assert scale(second) == 4 * scale(first)


# --- comparison ---


def test_equal_protos_have_no_difference() -> None:
    nets = build(compiled("tda4vm", {}))
    assert differences(nets, nets) == ()


def test_the_largest_effect_comes_first() -> None:
    (net,) = build(compiled("tda4vm", {}))
    coarse = tensor(1, "weights", scale=(net.layers[1].weights[0].scale[0] / 4,))(net)
    shifted = tensor(2, "outputs", max=net.layers[2].outputs[0].max * 1.01)(coarse)
    found = differences([net], [shifted])
    assert [(entry.layer, entry.field) for entry in found] == [
        (net.layers[1].layer_name, "scale"),
        (net.layers[2].layer_name, "max"),
    ]
    assert found[0].effect == pytest.approx(12.04, abs=0.01)


def test_layers_without_a_counterpart_stand_before_all_others() -> None:
    (net,) = build(compiled("tda4vm", {}))
    first = differences([net], [without(4)(net)])[0]
    assert (first.layer, first.after) == (net.layers[4].layer_name, "not there")
