"""A fault that is put into a network is named, with layer and evidence, and following the remedy helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lowtide.runtime import Session, to_model
from unit.diagnosis.networks import DIGITS, Builder, demo, diagnosed, followed, followed_on, without_node

WIDE_OUTPUT = "advanced_options:output_feature_16bit_names_list="
WIDE_PARAMETERS = "advanced_options:params_16bit_names_list="


def scaled(layer: str, factor: float) -> Any:
    """One output channel of a convolution of the demo multiplied."""

    def change(name: str, array: NDArray[np.float32]) -> NDArray[np.float32]:
        if name == f"{layer}/weight":
            array[3] *= factor
        return array

    return change


def test_a_channel_of_a_depthwise_layer_times_50_is_named_and_a_scale_for_each_channel_restores(
    tmp_path: Path,
) -> None:
    mended = {"advanced_options:params_16bit_names_list": "block2/depthwise/relu6"}
    sound = diagnosed(demo(), tmp_path, DIGITS, "tda4vm", mended)
    broken = demo(scaled("block3/depthwise", 50))
    before = diagnosed(broken, tmp_path, DIGITS, "tda4vm", mended)
    found = before.of("block3/depthwise/relu6")["LT961"]
    assert found.remedy == "advanced_options:channel_wise_quantization=1"
    assert "31 of 32 channels" in found.evidence
    after = followed(broken, tmp_path, DIGITS, "tda4vm", found, options=mended)
    assert before.sqnr_db < sound.sqnr_db - 6
    assert after.sqnr_db > before.sqnr_db + 6
    assert followed_on(broken, tmp_path, DIGITS, "tda4vm", found, options=mended).sqnr_db > sound.sqnr_db - 1


def test_a_channel_of_a_pointwise_layer_times_50_is_named_and_16_bit_weights_restore(tmp_path: Path) -> None:
    mended = {"advanced_options:channel_wise_quantization": 1}
    sound = diagnosed(demo(), tmp_path, DIGITS, "tda4vm", mended)
    broken = demo(scaled("stem", 50))
    before = diagnosed(broken, tmp_path, DIGITS, "tda4vm", mended)
    found = before.of("stem/relu6")["LT961"]
    assert found.remedy == f"{WIDE_PARAMETERS}stem/relu6"
    after = followed(broken, tmp_path, DIGITS, "tda4vm", found, options=mended)
    assert before.sqnr_db < sound.sqnr_db - 6
    assert after.sqnr_db > before.sqnr_db + 6
    assert followed_on(broken, tmp_path, DIGITS, "tda4vm", found, options=mended).sqnr_db > sound.sqnr_db - 1


def test_weights_that_grew_large_are_named_in_the_model(tmp_path: Path) -> None:
    found = diagnosed(demo(scaled("stem", 50)), tmp_path, DIGITS, "am68a")
    assert "87.3" in found.of("stem/relu6")["LT973"].evidence
    assert "LT973" not in {finding.code for finding in diagnosed(demo(), tmp_path, DIGITS, "am68a").findings}


def test_a_missing_batch_normalization_behind_a_depthwise_layer_is_named(tmp_path: Path) -> None:
    found = diagnosed(without_node(demo(), "block1/depthwise/bn"), tmp_path, DIGITS, "am68a")
    (named,) = [finding for finding in found.findings if finding.code == "LT971"]
    assert named.layer == "block1/depthwise/relu6"
    assert "6 of 7 convolutions" in named.evidence
    assert named.remedy == f"{WIDE_OUTPUT}block1/depthwise/relu6"


def test_a_network_without_any_batch_normalization_is_taken_as_folded(tmp_path: Path) -> None:
    net = Builder()
    net.conv("b", net.node("Relu", "a", net.conv("c", "x", (8, 4), kernel=3)), (8, 8), kernel=3, group=8)
    found = diagnosed(net.model("b"), tmp_path, net.frames(), "am68a")
    assert "LT971" not in {finding.code for finding in found.findings}


def test_a_range_that_outliers_dominate_is_named(tmp_path: Path) -> None:
    net = Builder((1, 4, 48, 48))
    spike = np.zeros((1, 8, 48, 48))
    spike[0, :4, 20, 20] = 60.0  # one element of 4608
    spiked = net.node("Add", "spiked", net.conv("c", "x", (8, 4)), net.constant("spike", spike))
    limits = net.constant("low", np.array(-3.0)), net.constant("high", np.array(3.0))
    net.node("Clip", "y", net.conv("d", spiked, (4, 8)), *limits)
    model, frames = net.model("y"), net.frames(6)
    before = diagnosed(model, tmp_path, frames, "am68a")
    found = before.of("spiked")["LT951"]
    assert "99.9% of the elements need" in found.evidence
    assert found.remedy == f"{WIDE_OUTPUT}spiked"
    assert followed(model, tmp_path, frames, "am68a", found).sqnr_db > before.sqnr_db + 6


def test_a_range_that_a_constant_channel_takes_is_named(tmp_path: Path) -> None:
    net = Builder()
    scale, bias = np.ones(8), np.zeros(8)
    scale[2], bias[2] = 0.0, 90.0
    dead = net.node("Relu", "dead", net.conv("c", "x", (8, 4), scale=scale, bias=bias))
    net.conv("y", dead, (4, 8), kernel=3, unread=2)
    model, frames = net.model("y"), net.frames()
    before = diagnosed(model, tmp_path, frames, "am68a")
    found = before.of("dead")["LT952"]
    assert "comes of 1 constant channel;" in found.evidence
    assert found.remedy == f"{WIDE_OUTPUT}dead"
    assert followed(model, tmp_path, frames, "am68a", found).sqnr_db > before.sqnr_db + 3


def test_a_range_that_one_channel_takes_is_named(tmp_path: Path) -> None:
    net = Builder()
    scale = np.ones(8)
    scale[2] = 50.0
    wide = net.node("Relu", "wide", net.conv("c", "x", (8, 4), scale=scale))
    net.conv("y", wide, (8, 8), kernel=3, group=8)
    model, frames = net.model("y"), net.frames()
    before = diagnosed(model, tmp_path, frames, "am68a", {"condition": ""})
    found = before.of("wide")["LT959"]
    after = followed(model, tmp_path, frames, "am68a", found, options={"condition": ""})
    assert after.sqnr_db > before.sqnr_db


def test_a_scale_that_a_concatenation_ties_is_named(tmp_path: Path) -> None:
    net = Builder()
    small = net.node("Relu", "small", net.conv("c", "x", (8, 4)))
    large = net.node("Relu", "large", net.conv("d", "x", (8, 4), scale=40.0))
    net.node("Concat", "both", small, large, axis=1)
    net.conv("y", small, (4, 8), kernel=3)
    net.conv("z", "both", (4, 16), kernel=3)
    model, frames = net.model("y", "z"), net.frames()
    before = diagnosed(model, tmp_path, frames, "am68a")
    found = before.of("small")["LT953"]
    assert "large" in found.evidence or "both" in found.evidence
    assert found.remedy == f"{WIDE_OUTPUT}small"
    assert followed(model, tmp_path, frames, "am68a", found).sqnr_db > before.sqnr_db + 10


def test_a_scale_that_shifts_round_up_is_named(tmp_path: Path) -> None:
    net = Builder()
    net.conv("y", net.node("Relu", "a", net.conv("c", "x", (8, 4), scale=1.15)), (4, 8))
    model, frames = net.model("y"), net.frames() * np.float32(0.95)
    options = {"calibrator": "minmax", "advanced_options:params_16bit_names_list": "a,y"}
    before = diagnosed(model, tmp_path, frames, "tda4vm", options)
    found = before.of("a")["LT954"]
    assert found.remedy == "calibrator=shift-aware"
    assert "codes reach 0 to 7.969, the range is 0 to 4.291" in found.evidence
    assert followed(model, tmp_path, frames, "tda4vm", found, options=options).sqnr_db > before.sqnr_db + 3


def test_a_bias_that_its_format_rounds_is_named(tmp_path: Path) -> None:
    net = Builder()
    bias = np.full(8, 0.03)
    bias[2] = -90.0  # a channel that the Relu silences
    net.conv("y", net.node("Relu", "a", net.conv("c", "x", (8, 4), scale=0.05, bias=bias)), (4, 8), unread=2)
    model, frames = net.model("y"), net.frames()
    before = diagnosed(model, tmp_path, frames, "tda4vm")
    found = before.of("a")["LT963"]
    assert found.remedy == f"{WIDE_PARAMETERS}a"
    assert followed(model, tmp_path, frames, "tda4vm", found).sqnr_db > before.sqnr_db + 6


def test_a_function_in_a_table_is_named(tmp_path: Path) -> None:
    net = Builder()
    net.conv("y", net.node("Sigmoid", "s", net.conv("c", "x", (8, 4), scale=30.0)), (4, 8))
    model, frames = net.model("y"), net.frames()
    before = diagnosed(model, tmp_path, frames, "am68a")
    found = before.of("s")["LT966"]
    assert "Sigmoid" in found.evidence
    assert followed(model, tmp_path, frames, "am68a", found).sqnr_db > before.sqnr_db + 3


def test_a_range_that_the_calibrator_cut_off_is_named(tmp_path: Path) -> None:
    net = Builder()
    net.conv("y", net.node("Relu", "a", net.conv("c", "x", (8, 4), kernel=3)), (4, 8))
    model, frames = net.model("y"), net.frames()
    options = {"calibrator": "percentile{shrink=20}"}
    before = diagnosed(model, tmp_path, frames, "am68a", options)
    found = before.of("a")["LT956"]
    assert found.remedy == "calibrator=minmax"
    assert followed(model, tmp_path, frames, "am68a", found, options=options).sqnr_db > before.sqnr_db + 10


def test_what_a_cut_range_meets_is_told_of_the_frames_that_errors_are_measured_on(tmp_path: Path) -> None:
    net = Builder()
    net.conv("y", net.node("Relu", "a", net.conv("c", "x", (8, 4), kernel=3)), (4, 8))
    model, frames = net.model("y"), net.frames()
    recipe = {"recipe": "use calibrator percentile{shrink=20}; try weights correct-bias"}
    measured = diagnosed(model, tmp_path, frames, "am68a", recipe).compilation.measured_frames().positions
    assert measured is not None
    learned = [at for at in range(len(frames)) if at not in measured]
    frames[learned] *= 2
    made = diagnosed(model, tmp_path, frames, "am68a", recipe)
    evidence = made.of("a")["LT956"].evidence
    session = Session(to_model(made.compilation.reference, quantized=False, outputs=["a"]))
    (seen,) = zip(*(session.run({"x": frames[at : at + 1]}).values() for at in measured), strict=True)
    assert f"on the {len(measured)} frames" in evidence
    assert f"elements are {np.min(seen):.4g} to {np.max(seen):.4g}, " in evidence


def test_a_regression_head_in_8_bits_is_named_with_the_first_convolution(tmp_path: Path) -> None:
    net = Builder()
    net.conv("boxes", net.node("Relu", "a", net.conv("c", "x", (8, 4), kernel=3)), (4, 8), kernel=3)
    model, frames = net.model("boxes"), net.frames()
    before = diagnosed(model, tmp_path, frames, "am68a")
    head, first = before.of("boxes")["LT974"], before.of("a")["LT975"]
    after = followed(model, tmp_path, frames, "am68a", head, first)
    assert after.sqnr_db > before.sqnr_db + 4


@pytest.mark.parametrize("target", ["tda4vm", "am68a", "generic"])
def test_a_network_that_lost_nothing_has_no_findings(tmp_path: Path, target: str) -> None:
    net = Builder()
    net.conv("y", "x", (4, 4))
    assert diagnosed(net.model("y"), tmp_path, net.frames(), target, {"tensor_bits": 16}).findings == ()
