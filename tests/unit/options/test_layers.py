from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lowtide.errors import OptionError
from lowtide.options import OptionLayer, ResolvedOptions, resolve_options, vendor_options


def resolve(*layers: dict[str, Any]) -> ResolvedOptions:
    return resolve_options([OptionLayer(f"layer {n}", values) for n, values in enumerate(layers)])


def note(key: str, **values: Any) -> str:
    return next(option.note for option in resolve(values).effective if option.key == key)


def test_the_vendors_first_deny_list_key_is_still_accepted() -> None:
    assert resolve({"deny_list": "Slice, MaxPool"}).options.deny_list_layer_type == ("Slice", "MaxPool")
    assert vendor_options(resolve({"deny_list": "Slice"}))["deny_list:layer_type"] == "Slice"
    both = {"deny_list": "Slice", "deny_list:layer_type": ["Slice"]}
    assert resolve(both).options.deny_list_layer_type == ("Slice",)
    with pytest.raises(OptionError, match="deny_list and deny_list:layer_type are the same option"):
        resolve({"deny_list": "Slice", "deny_list:layer_type": "Conv"})


def test_prefixes_may_be_mappings() -> None:
    options = resolve(
        {"advanced_options": {"calibration_frames": 3}, "deny_list": {"layer_name": "a"}, "seed": 1}
    ).options
    assert (options.calibration_frames, options.deny_list_layer_name, options.seed) == (3, ("a",), 1)
    with pytest.raises(OptionError, match="advanced_options:calibration_frame'"):
        resolve({"advanced_options": {"calibration_frame": 3}})


@pytest.mark.parametrize("nothing", [None, "None", "null", ""])
def test_an_empty_list_replaces_a_weaker_one(nothing: str | None) -> None:
    assert resolve({"deny_list": "Slice"}, {"deny_list": nothing}).options.deny_list_layer_type == ()


def test_null_leaves_an_option_to_the_weaker_layers() -> None:
    assert resolve({"tensor_bits": 16}, {"tensor_bits": None}).options.tensor_bits == 16
    assert resolve({"calibration_frames": 5}, {"calibration_frames": None}).options.calibration_frames is None


def test_shapes_of_layers_complete_and_override_each_other_input_by_input() -> None:
    resolved = resolve({"input_shapes.a": "1x2", "input_shapes": {"b": [3]}}, {"input_shapes.b": 4})
    assert resolved.options.input_shapes == {"a": (1, 2), "b": (4,)}
    shapes = next(option for option in resolved.effective if option.key == "input_shapes")
    assert (shapes.origin, shapes.overridden) == ("layer 1", (("layer 0", {"a": (1, 2), "b": (3,)}),))


def test_one_layer_may_not_give_one_input_two_shapes() -> None:
    same = {"input_shapes.a": "1x2", "input_shapes": {"a": [1, 2]}}
    assert resolve(same).options.input_shapes == {"a": (1, 2)}
    for values in (
        {"input_shapes.a": "1x2", "input_shapes": {"a": [1, 3]}},
        {"input_shapes": {"a": [1, 3]}, "input_shapes.a": "1x2"},
    ):
        with pytest.raises(OptionError, match="same option"):
            resolve(values)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bias_calibration_factor", "nan"),
        ("bias_calibration_factor", True),
        ("input_mean", [1.0, float("inf")]),
        ("input_mean", [[1.0], [2.0]]),
        ("input_shapes.x", [1.5, 2]),
        ("input_shapes.x", True),
        ("object_detection:confidence_threshold", 1.5),
        ("object_detection:nms_threshold", -0.5),
        ("debug_level", -1),
        ("bias_calibration_factor", 0),
        ("inference_mode", 3),
        ("core_number", 0),
        ("core_start_idx", 0),
        ("object_detection:meta_arch_type", 99),
        ("object_detection:meta_arch_type", 2),
        ("object_detection:top_k", -5),
        ("object_detection:keep_top_k", 0),
        ("ti_internal_nc_flag", -3),
        ("tensor_bits", "1_6"),
        ("tensor_bits", b"8"),
        ("bias_calibration_factor", b"1"),
        ("input_mean", "1_0"),
        ("channel_wise_quantization", "maybe"),
        ("deny_list:layer_name", ["a", None]),
    ],
)
def test_numbers_without_a_meaning_are_refused(key: str, value: Any) -> None:
    with pytest.raises(OptionError, match="layer 0"):
        resolve({key: value})


def test_a_wrong_factor_is_refused_with_its_origin() -> None:
    with pytest.raises(OptionError, match=r"advanced_options:mixed_precision_factor \(layer 1\)"):
        resolve({}, {"mixed_precision_factor": 0.5})


def test_what_becomes_of_a_quantized_model_is_chosen_by_word() -> None:
    assert resolve({}).options.recalibrate == "no"
    assert resolve({"recalibrate": "data"}).options.recalibrate == "data"
    assert resolve({"recalibrate": False}).options.recalibrate == "no"  # as YAML reads the word
    for wrong in ("yes", True, 1):
        with pytest.raises(OptionError, match="no, convert, data"):
            resolve({"recalibrate": wrong})
    own = {"recalibrate": "convert", "proto_incomplete": "calibrate", "prequantized_model": 1}
    assert vendor_options(resolve(own)) == {
        "tensor_bits": 8,
        "accuracy_level": 1,
        "advanced_options:prequantized_model": 1,
    }


@pytest.mark.parametrize(("given", "value"), [(None, None), (0, False), ("1", True), ("None", None)])
def test_a_model_may_decide_itself_whether_it_is_quantized(given: Any, value: bool | None) -> None:
    assert resolve({"prequantized_model": given}).options.prequantized_model is value


def test_options_that_exclude_each_other_are_named_with_their_origins() -> None:
    with pytest.raises(OptionError, match=r"layer 0 and layer 1: .*deny_list:layer_name exclude"):
        resolve({"allow_list:layer_name": "a"}, {"deny_list:layer_name": "b"})


def test_what_is_left_to_the_compiler_is_not_given_to_the_vendors_tools() -> None:
    assert vendor_options(resolve({"calibration_frames": None})) == {"tensor_bits": 8, "accuracy_level": 1}


def test_a_float_compile_says_which_options_mean_nothing() -> None:
    assert "tensor_bits 32" in note("accuracy_level", tensor_bits=32, accuracy_level=0)
    assert note("accuracy_level", tensor_bits=8, accuracy_level=0) == ""


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("advanced_options:mixed_precision_factor", 1.2),
        ("budget_ms", 3),
        ("goal", "sqnr>=30"),
        ("front_point", 2),
        ("search_frames", 4),
        ("advanced_options:output_feature_16bit_names_list", "a"),
        ("advanced_options:params_16bit_names_list", "a"),
    ],
)
def test_options_about_widths_say_that_a_float_compile_has_none(option: str, value: object) -> None:
    assert note(option, **{option: value, "tensor_bits": 32}) == (
        "without effect: tensor_bits 32 leaves the network in float"
    )


def test_frames_for_a_search_that_nothing_asks_for_say_so() -> None:
    assert "without effect" in note("search_frames", search_frames=4)
    assert note("search_frames", search_frames=4, budget_ms=3) == ""


def test_the_level_names_what_overrides_it() -> None:
    assert note("accuracy_level", accuracy_level=1, calibrator="minmax") == "calibrator chooses the ranges"
    both = note("accuracy_level", accuracy_level=1, calibrator="minmax", weights="")
    assert both == "calibrator chooses the ranges; weights chooses the corrections"


def test_few_frames_leave_a_note() -> None:
    key = "advanced_options:calibration_frames"
    assert "fewer" in note(key, calibration_frames=1)
    assert note(key, calibration_frames=10) == ""


def test_flags_of_level_nine_say_so() -> None:
    assert "accuracy_level 9" in note("advanced_options:weight_clipping", weight_clipping=0)


@pytest.mark.parametrize("eight", [8, 8.0, "8", "8.0", " 8 ", np.int64(8), np.float32(8)])
def test_a_number_without_a_fraction_is_an_integer_in_every_spelling(eight: Any) -> None:
    found = resolve({"tensor_bits": eight}).options.tensor_bits
    assert (found, type(found)) == (8, int)


@pytest.mark.parametrize("yes", [True, np.True_, 1, "1", "yes", "True", 1.0])
def test_a_truth_value_may_be_of_numpy_or_a_word(yes: Any) -> None:
    assert resolve({"bias_clipping": yes}).options.bias_clipping is True


@pytest.mark.parametrize("names", [{"a", "b"}, np.array(["a", "b"]), {"a": 1}])
def test_names_in_something_else_than_a_list_are_refused_with_what_to_give(names: Any) -> None:
    with pytest.raises(OptionError, match=f"give a list of texts, .*{type(names).__name__} is neither"):
        resolve({"deny_list:layer_name": names})


def test_a_level_of_output_above_the_vendors_is_kept_with_a_note() -> None:
    assert "levels are 0 to 6" in note("debug_level", debug_level=300)
    assert "levels" not in note("debug_level", debug_level=6)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("advanced_options:accuracy_level", "accuracy_level"),
        ("advanced_options:top_k", "object_detection:top_k"),
        ("deny_list:max_num_subgraphs", "max_num_subgraphs"),
        ("advanced_options:calibration_frame", "advanced_options:calibration_frames"),
    ],
)
def test_an_unknown_key_names_the_one_behind_another_prefix(key: str, meant: str) -> None:
    with pytest.raises(OptionError, match=rf"did you mean {meant}\b"):
        resolve({key: 1})


def test_one_key_flat_and_in_a_mapping_is_told_as_standing_twice() -> None:
    key = "advanced_options:calibration_frames"
    with pytest.raises(OptionError, match=f"{key} stands twice with different values: 3 and 2"):
        resolve({"advanced_options": {"calibration_frames": 3}, key: 2})
