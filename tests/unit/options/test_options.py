from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.errors import OptionError
from lowtide.options import (
    FIELDS,
    CompileOptions,
    Effect,
    OptionLayer,
    load_options_file,
    parse_assignment,
    resolve_options,
    vendor_options,
)


def resolve(*layers: dict[str, Any]) -> CompileOptions:
    return resolve_options([OptionLayer(f"layer {n}", values) for n, values in enumerate(layers)]).options


def spellings() -> set[str]:
    return {name for field, info in FIELDS.items() for name in (field, info.key, info.key.rpartition(":")[2])}


def test_without_any_layer_every_option_has_its_default() -> None:
    assert resolve() == CompileOptions()


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("tensor_bits", "16", 16),
        ("advanced_options:quantization_scale_type", "4", 4),
        ("quantization_scale_type", 1, 1),
        ("advanced_options:channel_wise_quantization", "1", True),
        ("channel_wise_quantization", True, True),
        ("deny_list:layer_type", "Conv, Relu\nSoftmax", ("Conv", "Relu", "Softmax")),
        ("deny_list_layer_type", ["Conv"], ("Conv",)),
        ("deny_list:layer_name", 728, ("728",)),
        ("bias_calibration_factor", "0.01", 0.01),
        ("calibration_frames", "None", None),
        ("weights", "", ""),
        ("weights", "none", None),
        ("max_num_subgraphs", 4, 4),
        ("input_mean", "1, 2,3.5", (1.0, 2.0, 3.5)),
        ("input_shapes", {"x": "1x3x8x8"}, {"x": (1, 3, 8, 8)}),
        ("input_shapes", {"x": [1, 3, 8, 8]}, {"x": (1, 3, 8, 8)}),
    ],
)
def test_values_are_read_in_every_spelling_found_in_the_wild(key: str, text: Any, value: Any) -> None:
    field = next(
        name for name, info in FIELDS.items() if key in (name, info.key, info.key.rpartition(":")[2])
    )
    assert getattr(resolve({key: text}), field) == value


def test_input_shapes_of_several_inputs_come_together_from_dotted_keys() -> None:
    found = resolve({"input_shapes.a": "1x2", "input_shapes.b.c": "3x4"}).input_shapes
    assert found == {"a": (1, 2), "b.c": (3, 4)}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("tensor_bits", 7, ["tensor_bits", "8, 16, 32", "7"]),
        ("tensor_bits", "eight", ["integer", "eight"]),
        ("tensor_bits", 8.5, ["integer"]),
        ("tensor_bits", True, ["integer"]),
        ("calibration_frames", 0, ["at least 1"]),
        ("channel_wise_quantization", 2, ["0 or 1"]),
        ("input_shapes", "1x3", ["shapes by input name"]),
        ("input_shapes", {"x": "1x0"}, ["shapes by input name"]),
        ("deny_list:layer_type", 1.5, ["list of names"]),
    ],
)
def test_a_wrong_value_names_option_expectation_value_and_origin(
    key: str, value: Any, words: list[str]
) -> None:
    with pytest.raises(OptionError) as caught:
        resolve({key: value})
    for word in [*words, "layer 0"]:
        assert word in str(caught.value)


@given(st.text(min_size=1).filter(lambda key: key.partition(".")[0] not in spellings()))
def test_an_unknown_key_is_never_accepted(key: str) -> None:
    with pytest.raises(OptionError):
        resolve({key: 1})


def test_an_unknown_key_suggests_the_nearest_ones() -> None:
    with pytest.raises(OptionError, match="calibration_frames"):
        resolve({"calibration_frame": 5})


def test_the_name_of_an_older_tool_names_the_present_one() -> None:
    with pytest.raises(OptionError, match="use tensor_bits"):
        resolve({"numParamBits": 8})


def test_the_stronger_layer_wins_and_the_weaker_value_is_kept_with_its_origin() -> None:
    layers = [OptionLayer("file", {"tensor_bits": 16}), OptionLayer("--set", {"tensor_bits": 8})]
    resolved = resolve_options(layers)
    found = next(option for option in resolved.effective if option.key == "tensor_bits")
    assert (found.value, found.origin, found.overridden) == (8, "--set", (("file", 16),))


def test_two_spellings_of_one_option_may_not_disagree() -> None:
    key = "advanced_options:quantization_scale_type"
    assert resolve({key: 1, "quantization_scale_type": 1}).quantization_scale_type == 1
    with pytest.raises(OptionError, match="same option"):
        resolve({key: 1, "quantization_scale_type": 0})


@pytest.mark.parametrize("factor", [1, 0.8, 0, -2, 120])
def test_a_factor_that_allows_nothing_or_is_a_slip_is_refused(factor: float) -> None:
    with pytest.raises(OptionError, match=r"above 1 and up to 10.*20 %"):
        resolve({"mixed_precision_factor": factor})


@pytest.mark.parametrize("milliseconds", [0, -2])
def test_a_budget_that_is_no_time_is_refused_by_one_rule(milliseconds: float) -> None:
    with pytest.raises(OptionError, match=f"budget_ms .*expected milliseconds above 0, found {milliseconds}"):
        resolve({"budget_ms": milliseconds})


@pytest.mark.parametrize("option", ["budget_ms", "search_frames", "prequantized_model", "tensor_bits"])
def test_an_empty_value_is_no_number(option: str) -> None:
    with pytest.raises(OptionError, match=f"{option} .*expected .*, found ''"):
        resolve({option: ""})


def test_a_factor_of_minus_one_is_none() -> None:
    assert resolve({"mixed_precision_factor": -1}).chosen_strategy == "uniform"


@pytest.mark.parametrize(
    "options", [{"mixed_precision_factor": 1.2}, {"budget_ms": 3}, {"goal": "sqnr>=30"}, {"front_point": 2}]
)
def test_a_budget_a_goal_or_a_point_of_the_front_asks_for_the_automatic_strategy(
    options: dict[str, Any],
) -> None:
    assert resolve(options).chosen_strategy == "automatic"
    assert resolve({**options, "strategy": "manual"}).chosen_strategy == "manual"
    with pytest.raises(OptionError, match="tensor_bits is 16"):
        resolve({**options, "tensor_bits": 16})


def test_two_budgets_are_refused() -> None:
    options = {"mixed_precision_factor": 1.2, "budget_ms": 3}
    with pytest.raises(OptionError, match="give one of them"):
        resolve(options)


def test_lists_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(OptionError, match="exclude"):
        resolve({"allow_list:layer_name": "a", "deny_list:layer_type": "Conv"})


def test_folding_an_input_normalization_needs_one() -> None:
    with pytest.raises(OptionError, match="input_mean"):
        resolve({"input_optimization": 1})


def test_an_option_for_the_vendors_tools_says_that_it_has_no_effect_here() -> None:
    resolved = resolve_options([OptionLayer("x", {"debug_level": 3})])
    found = next(option for option in resolved.effective if option.key == "debug_level")
    assert "without effect" in found.note


def test_the_vendors_dictionary_holds_what_was_set_under_its_own_keys() -> None:
    values = {
        "deny_list_layer_type": ["Conv", "Relu"],
        "channel_wise_quantization": 1,
        "calibrator": "minmax",
    }
    found = vendor_options(resolve_options([OptionLayer("x", values)]))
    assert found["deny_list:layer_type"] == "Conv, Relu"
    assert found["advanced_options:channel_wise_quantization"] == 1
    assert found["tensor_bits"] == 8
    assert "calibrator" not in found


def test_every_option_has_help_and_a_legal_default() -> None:
    for field, info in FIELDS.items():
        assert info.help
        default = getattr(CompileOptions(), field)
        if info.choices and default is not None:
            assert default in info.choices
        assert info.effect in Effect


def test_assignments_are_read_as_yaml_but_pipelines_stay_text() -> None:
    assert parse_assignment("tensor_bits=16") == ("tensor_bits", 16)
    assert parse_assignment("advanced_options:bias_clipping=1") == ("advanced_options:bias_clipping", 1)
    assert parse_assignment("weights=correct-bias{frames=3}") == ("weights", "correct-bias{frames=3}")
    assert parse_assignment("weights=") == ("weights", "")
    with pytest.raises(OptionError, match="KEY=VALUE"):
        parse_assignment("tensor_bits")


def test_options_files_are_json_or_yaml(tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text(json.dumps({"tensor_bits": 16}), "utf-8")
    (tmp_path / "o.yaml").write_text("tensor_bits: 16\n", "utf-8")
    for name in ("o.json", "o.yaml"):
        layer = load_options_file(tmp_path / name).layer
        assert (layer.values, layer.origin) == ({"tensor_bits": 16}, f"options file {name}")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("o.yaml", "a: [1\n", ["o.yaml:2:1"]),
        ("o.json", '{"a": }', ["o.json:1:7"]),
        ("o.yaml", "- 1\n- 2\n", ["options by name", "[1, 2]"]),
        ("o.yaml", "", ["the file is empty", "`tensor_bits: 8`"]),
        ("o.yaml", "just words", ["'just words'"]),
        ("o.txt", "tensor_bits=8\naccuracy_level=0\n", ["KEY=VALUE", "not read", "`tensor_bits: 8`"]),
        ("o.txt", "# import\nmodelType  = 2\nnumParamBits = 8\n", ["KEY=VALUE", "not read"]),
        ("o.yaml", "session: 5\n", ["session"]),
    ],
)
def test_a_broken_options_file_is_named_with_the_place(
    tmp_path: Path, name: str, text: str, words: list[str]
) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(OptionError) as caught:
        load_options_file(tmp_path / name)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_options_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"nowhere\.yaml"):
        load_options_file(tmp_path / "nowhere.yaml")


def test_a_model_zoo_configuration_gives_options_and_preprocessing(tmp_path: Path) -> None:
    text = """
task_type: classification
preprocess: {resize: 256, crop: 224, data_layout: NCHW}
session:
  input_mean: [1, 2, 3]
  input_scale: [0.1, 0.2, 0.3]
  model_path: net.onnx
  runtime_options: {tensor_bits: 8, "advanced_options:calibration_frames": 25, info: {a: 1}}
postprocess: {}
"""
    (tmp_path / "c.yaml").write_text(text, "utf-8")
    loaded = load_options_file(tmp_path / "c.yaml")
    options = resolve_options([loaded.layer]).options
    assert (options.tensor_bits, options.calibration_frames, options.input_mean) == (8, 25, (1.0, 2.0, 3.0))
    assert loaded.preprocess == {
        "resize": 256,
        "crop": 224,
        "data_layout": "NCHW",
        "input_mean": [1, 2, 3],
        "input_scale": [0.1, 0.2, 0.3],
    }
    assert loaded.model_path == "net.onnx"
    assert loaded.ignored == ("task_type", "postprocess")
