"""The error of every layer in exact execution, and how far the emulation is from it."""

from __future__ import annotations

import numpy as np
import pytest

import lowtide
from lowtide.compiler.run import input_specs
from lowtide.data import DataSource, open_data
from lowtide.ir import layers
from lowtide.measure import Agreement, CodeDifference, Measurement, measure_agreement, measure_exact_layers
from lowtide.plugin import discover
from lowtide.runtime import Session, to_model
from support import CALIBRATION, MODEL, TEST

REGISTRY = discover()
WAYS = [("tda4vm", 1), ("tda4vm", 0), ("am68a", 4), ("generic", 4)]


def compiled(target: str, number: int, **options: object) -> lowtide.CompileResult:
    given = {"quantization_scale_type": number, "recipe": "use calibrator minmax", **options}
    return lowtide.compile(MODEL, target=target, data=str(CALIBRATION), options=given, registry=REGISTRY)


def frames(result: lowtide.CompileResult, count: int) -> DataSource:
    return open_data(str(TEST), input_specs(result.reference)).select(count)


def measured(result: lowtide.CompileResult, count: int) -> Measurement:
    host = sorted(result.device.on_host)
    return measure_exact_layers(
        result.reference, result.graph, result.device.profile, host, frames(result, count)
    )


def agreement(result: lowtide.CompileResult, count: int) -> Agreement:
    host = sorted(result.device.on_host)
    return measure_agreement(
        result.reference, result.graph, result.device.profile, host, frames(result, count)
    )


@pytest.mark.parametrize(("target", "number"), WAYS)
def test_layers_differ_from_the_emulation_by_one_code_at_most(target: str, number: int) -> None:
    result = compiled(target, number)
    found = agreement(result, 3)
    assert set(found.layers) == {layer.name for layer in layers(result.graph)} - result.device.on_host
    assert max(entry.largest for entry in found.layers.values()) <= 1
    assert found.suspicious == ()


@pytest.mark.parametrize("bits", [8, 16])
def test_sixteen_bits_differ_by_one_code_at_most_too(bits: int) -> None:
    for target in ("tda4vm", "am68a"):
        found = agreement(compiled(target, 1, tensor_bits=bits), 2)
        assert max(entry.largest for entry in found.layers.values()) <= 1


def test_more_than_one_code_is_suspicious() -> None:
    difference = CodeDifference()
    difference.add(np.array([1, 2, 3], np.uint8), np.array([1, 4, 2], np.uint8))
    assert (difference.share, difference.largest) == (2 / 3, 2)
    assert Agreement(1, {"a": difference, "b": CodeDifference()}, {}, {}).suspicious == ("a",)


def test_the_output_error_is_that_of_a_run() -> None:
    result = compiled("am68a", 4)
    session = Session(to_model(result.reference, quantized=False))
    noise = signal = 0.0
    for frame in frames(result, 4).frames():
        plain = session.run(frame.feeds)["logits"].astype(float)
        fixed = result.run(frame.feeds, mode="exact")["logits"].astype(float)
        signal, noise = signal + float((plain**2).sum()), noise + float(((plain - fixed) ** 2).sum())
    found = measured(result, 4).outputs["logits"]
    assert found.sqnr_db == pytest.approx(10 * np.log10(signal / noise), abs=1e-4)
    assert agreement(result, 4).outputs["logits"].sqnr_db == pytest.approx(found.sqnr_db, abs=1e-3)


def test_a_first_layer_has_the_same_error_alone_as_in_sum() -> None:
    first = measured(compiled("am68a", 4), 3).layers[0]
    assert first.isolated is not None
    assert first.isolated.noise == pytest.approx(first.cumulative.noise, rel=1e-2)


def test_a_fused_first_layer_reads_codes_alone_too() -> None:
    with np.load(CALIBRATION) as arrays:
        pixels = arrays["image"][:6] / np.float32(1.7)  # whole pixels would be codes already
    result = lowtide.compile(MODEL, target="am68a", data=pixels, registry=REGISTRY)
    source = open_data(pixels, input_specs(result.reference))
    host = sorted(result.device.on_host)
    found = measure_exact_layers(result.reference, result.graph, result.device.profile, host, source)
    first = found.layers[0]
    assert len(layers(result.graph)[0].nodes) > 1
    assert first.isolated is not None
    assert first.isolated.noise == pytest.approx(first.cumulative.noise, rel=1e-3)


def test_errors_of_exact_execution_are_near_those_of_the_emulation() -> None:
    result = compiled("am68a", 4)
    exact = {error.layer: error.cumulative.sqnr_db for error in measured(result, 8).layers}
    report = {layer.name: layer.sqnr_cumulative_db for layer in result.report.layers}
    for name, found in exact.items():
        assert found == pytest.approx(report[name], abs=1.5)


def test_the_report_has_the_exact_figures_first() -> None:
    result = compiled("tda4vm", 1)
    (output,) = result.report.outputs
    assert output.qdq_sqnr_db is not None
    assert result.report.agreement is not None
    assert result.report.agreement.arithmetic == "shift"
    assert result.report.agreement.layer_largest <= 1


def test_outputs_that_are_float_are_not_said_to_agree_in_codes() -> None:
    result = compiled("am68a", 4, **{"deny_list:layer_name": "logits"})
    found = result.report.agreement
    assert found is not None
    assert (found.outputs, found.output_share, found.output_largest) == (0, None, None)
    assert found.layers > 0
    coded = compiled("am68a", 4).report.agreement
    assert coded is not None
    assert coded.outputs == 1
    assert coded.output_share is not None


def test_the_arithmetic_can_be_chosen_by_name() -> None:
    result = compiled("am68a", 4, arithmetic="float32")
    assert result.device.profile.name == "float32"
    with pytest.raises(lowtide.LowtideError, match="there is no arithmetic 'flaot32'"):
        compiled("am68a", 4, arithmetic="flaot32")
