"""Option dictionaries as scripts hand them to the vendor's execution provider or delegate."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

import lowtide
from lowtide.options import OptionLayer, resolve_options, vendor_options
from support import CALIBRATION, MODEL

SCRIPT: dict[str, Any] = {
    "tidl_tools_path": Path("tools") / "tidl_tools",
    "artifacts_folder": Path("artifacts"),
    "platform": "J7",
    "version": "7.2",
    "tensor_bits": 8,
    "debug_level": 300,
    "max_num_subgraphs": 16,
    "deny_list": "",
    "deny_list:layer_type": "",
    "deny_list:layer_name": "",
    "model_type": "",
    "accuracy_level": 1,
    "advanced_options:calibration_frames": 2,
    "advanced_options:calibration_iterations": 5,
    "advanced_options:output_feature_16bit_names_list": "",
    "advanced_options:params_16bit_names_list": "",
    "advanced_options:mixed_precision_factor": -1,
    "advanced_options:quantization_scale_type": 0,
    "advanced_options:high_resolution_optimization": 0,
    "advanced_options:pre_batchnorm_fold": 1,
    "advanced_options:inference_mode": 0,
    "advanced_options:num_cores": 1,
    "advanced_options:activation_clipping": 1,
    "advanced_options:weight_clipping": 1,
    "advanced_options:bias_calibration": 1,
    "advanced_options:add_data_convert_ops": 3,
    "advanced_options:channel_wise_quantization": 0,
    "advanced_options:prequantized_model": 0,
    "ti_internal_nc_flag": 1601,
    "import": "yes",
    "info": {"prequantized_model_type": 0},
}


def test_the_dictionary_of_a_script_compiles_as_it_is() -> None:
    result = lowtide.compile(MODEL, target="am68a", data=CALIBRATION, options=SCRIPT)
    assert result.report.device.scale_type == 0
    assert result.options.options.calibration_frames == 2
    noted = {option.key: option.note for option in result.options.effective}
    assert "without effect" in noted["artifacts_folder"]


def test_numbers_may_be_text_as_delegates_of_c_want_them() -> None:
    as_text = {key: value if isinstance(value, dict) else str(value) for key, value in SCRIPT.items()}
    plain = resolve_options([OptionLayer("Python", SCRIPT)]).options
    assert resolve_options([OptionLayer("Python", as_text)]).options == plain


def test_lists_of_names_are_separated_by_commas_blanks_or_line_breaks_and_hold_semicolons() -> None:
    text = "box/Add;box/conv, 728 729\n 730,"
    options = resolve_options([OptionLayer("Python", {"deny_list:layer_name": text})]).options
    assert options.deny_list_layer_name == ("box/Add;box/conv", "728", "729", "730")
    again = vendor_options(resolve_options([OptionLayer("Python", {"deny_list:layer_name": text})]))
    assert again["deny_list:layer_name"] == "box/Add;box/conv, 728, 729, 730"


class Level(enum.Enum):
    ORT_DISABLE_ALL = 0


@pytest.mark.parametrize("level", [ort.GraphOptimizationLevel.ORT_DISABLE_ALL, Level.ORT_DISABLE_ALL])
def test_a_constant_of_the_runtime_is_its_name(level: Any) -> None:
    layer = OptionLayer("Python", {"onnxruntime:graph_optimization_level": level})
    assert resolve_options([layer]).options.onnxruntime_graph_optimization_level == "ORT_DISABLE_ALL"


def test_what_only_scripts_read_is_no_option() -> None:
    resolved = resolve_options([OptionLayer("Python", {"import": "no", "info": {}})])
    assert vendor_options(resolved) == {"tensor_bits": 8, "accuracy_level": 1}
