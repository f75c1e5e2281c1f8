"""Widths by name: the two 16-bit lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lowtide
from lowtide.errors import OptionError
from lowtide.ir import parse_graph
from lowtide.options import CompileOptions, OptionLayer, parse_assignment, resolve_options
from lowtide.plugin import discover
from lowtide.plugin.strategy_check import problems
from lowtide.precision import check_used, read_lists
from support import CALIBRATION, MODEL

REGISTRY = discover()
OUTPUTS, PARAMETERS = "output_feature_16bit_names_list", "params_16bit_names_list"


def compiled(target: str = "am68a", **options: object) -> lowtide.CompileResult:
    return lowtide.compile(MODEL, target=target, data=str(CALIBRATION), options=options, registry=REGISTRY)


def widths(result: lowtide.CompileResult) -> dict[str, tuple[int | None, int | None]]:
    return {layer.name: (layer.bits, layer.weight_bits) for layer in result.report.layers}


@pytest.mark.parametrize("target", ["am68a", "tda4vm", "generic"])
def test_a_listed_output_has_16_bits_and_so_have_its_parameters(target: str) -> None:
    found = widths(compiled(target, **{OUTPUTS: "stem/relu6"}))
    assert found["stem/relu6"] == (16, 16)
    assert found["block1/depthwise/relu6"] == (8, 8)


def test_parameters_alone_may_have_16_bits() -> None:
    found = widths(compiled(**{PARAMETERS: "block1/depthwise/relu6"}))
    assert found["block1/depthwise/relu6"] == (8, 16)


def test_names_from_before_fusion_are_known() -> None:
    by_layer = compiled(**{OUTPUTS: "stem/relu6, logits"})
    by_node = compiled(**{OUTPUTS: "stem logits"})
    assert by_node.graph == by_layer.graph


def test_a_class_goes_along_and_the_reason_says_so() -> None:
    result = compiled(**{OUTPUTS: "head/pool"})
    assert widths(result)["head/flatten"][0] == 16
    assert "head/flatten" in result.plan.reasons["head/pool"]


def test_wider_layers_lose_less() -> None:
    plain = {"recipe": "use calibrator minmax"}
    narrow = compiled("tda4vm", **plain)
    wide = compiled("tda4vm", **plain, **{PARAMETERS: "block2/depthwise/relu6"})
    assert wide.report.outputs[0].sqnr_db > narrow.report.outputs[0].sqnr_db + 10


def test_exact_execution_agrees_with_the_emulation() -> None:
    for target in ("am68a", "tda4vm"):
        agreement = compiled(target, **{OUTPUTS: "stem, block2/pointwise/bn, logits"}).report.agreement
        assert agreement is not None
        assert agreement.layer_largest <= 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("stem/rleu6", "no layer, node or tensor 'stem/rleu6'.*stem/relu6"),
        ("stem, logits, stem", "'stem' is given 2 times"),
    ],
)
def test_a_name_that_means_no_layer_is_refused_with_the_nearest(names: str, message: str) -> None:
    for option in (OUTPUTS, PARAMETERS):
        with pytest.raises(OptionError, match=message):
            compiled(**{option: names})


def test_a_layer_on_the_host_has_no_parameters_with_codes_but_what_it_gives_has() -> None:
    denied = {"deny_list:layer_name": "stem"}
    with pytest.raises(OptionError, match="runs on the host"):
        compiled(**{PARAMETERS: "stem", **denied})
    result = compiled(**{OUTPUTS: "stem", **denied})
    assert result.placement.of("stem/relu6").device == "host"
    assert result.plan.activations["stem/relu6"] == 16


def test_the_options_file_gives_the_same_widths_where_layers_run_on_the_host(tmp_path: Path) -> None:
    denied = {"deny_list:layer_name": "stem"}
    wide = compiled(mixed_precision_factor=10, **denied)
    written = json.loads((wide.save(tmp_path / "out") / "tidl_options.json").read_text("utf-8"))
    again = compiled(**{key: written[f"advanced_options:{key}"] for key in (OUTPUTS, PARAMETERS)}, **denied)
    assert again.plan.same_widths(wide.plan)


def test_the_exact_name_of_a_layer_means_that_layer_alone() -> None:
    graph = parse_graph(
        """graph "two" {
  input %x: float32[1, 4, 4, 4]
  const %w: float32[4, 4, 1, 1] = fill(0.5)
  %a: float32[1, 4, 4, 4] = Conv(%x, %w) at "net.onnx" nodes "a" tensors "a"
  %b: float32[1, 4, 4, 4] = Relu(%a) at "net.onnx" nodes "a" tensors "b"
  return %b
}"""
    )
    asked = problems("tda4vm", REGISTRY, graph, CompileOptions(params_16bit_names_list=("a",)))[0]
    assert read_lists(asked).parameters == {"a": "a"}


def test_layers_without_parameters_have_none_to_raise() -> None:
    with pytest.raises(OptionError, match=r"'head/pool' has no parameters.*leave it out"):
        compiled(**{PARAMETERS: "head/pool"})


@pytest.mark.parametrize(
    ("strategy", "option", "value", "taken_back"),
    [
        ("uniform", OUTPUTS, "stem", "output_feature_16bit_names_list=none"),
        ("uniform", PARAMETERS, "stem", "params_16bit_names_list=none"),
        ("uniform", "mixed_precision_factor", 1.2, "mixed_precision_factor=-1"),
        ("uniform", "search_frames", 4, "search_frames=none"),
        ("manual", "mixed_precision_factor", 1.2, "mixed_precision_factor=-1"),
        ("manual", "budget_ms", 3, "budget_ms=none"),
        ("manual", "goal", "sqnr>=30", "goal=none"),
        ("manual", "front_point", 2, "front_point=none"),
    ],
)
def test_an_option_that_the_named_strategy_does_not_use_is_refused(
    strategy: str, option: str, value: object, taken_back: str
) -> None:
    message = rf"{option} \(Python\) and strategy \(Python\): the strategy {strategy} of .* does not use this"
    with pytest.raises(OptionError, match=message) as raised:
        compiled("am68a", strategy=strategy, **{option: value})
    assert f"--set {taken_back} takes back" in raised.value.hint
    file = OptionLayer("file", {option: value})
    key, nothing = parse_assignment(taken_back)
    check_used(resolve_options([file, OptionLayer("--set", {key: nothing, "strategy": strategy})]), REGISTRY)


def test_a_network_with_16_bits_everywhere_gives_no_layer_them_because_it_is_listed() -> None:
    result = compiled(tensor_bits=16, output_feature_16bit_names_list="stem")
    assert {bits for bits, _ in widths(result).values()} == {16}
    assert not any(layer.width_reason for layer in result.report.layers)
    (note,) = [option.note for option in result.report.options if option.name.endswith(OUTPUTS)]
    assert note == "without effect: tensor_bits 16 gives all layers 16 bits"
