"""By which names layers are listed for 16 bits, and by which the vendor's tools know them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lowtide
from lowtide.errors import OptionError
from lowtide.plugin import discover
from tflite_making import Op, T, const, make

REGISTRY = discover()
OUTPUTS, PARAMETERS = "output_feature_16bit_names_list", "params_16bit_names_list"
STEM = "stem/Relu;stem/bn;stem/Conv2D"
LEFT, RIGHT = "left/Relu;shared;left/Conv2D", "right/Relu;shared;right/Conv2D"
CONVOLUTION = {
    "table": "Conv2DOptions",
    "Padding": 0,
    "StrideW": 1,
    "StrideH": 1,
    "FusedActivationFunction": 1,
    "DilationWFactor": 1,
    "DilationHFactor": 1,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions after another one, and one behind their sum that gives the output.

    Lowtide adds a Transpose at either end, ``x_nchw`` and ``y``; the last convolution becomes ``y_nchw``.
    """
    random = np.random.default_rng(0)

    def weights(name: str, size: int) -> T:
        return const(name, random.normal(size=(4, size, size, 4)).astype(np.float32))

    shape = (1, 8, 8, 4)
    tensors = [
        T(name="x", shape=shape),
        weights("stem/kernel", 3),
        T(name=STEM, shape=shape),
        weights("left/kernel", 1),
        T(name=LEFT, shape=shape),
        weights("right/kernel", 3),
        T(name=RIGHT, shape=shape),
        T(name="sum", shape=shape),
        weights("y/kernel", 1),
        T(name="y", shape=shape),
    ]
    operators = [
        Op("CONV_2D", (0, 1), (2,), CONVOLUTION),
        Op("CONV_2D", (2, 3), (4,), CONVOLUTION),
        Op("CONV_2D", (2, 5), (6,), CONVOLUTION),
        Op("ADD", (4, 6), (7,), {"table": "AddOptions"}),
        Op("CONV_2D", (7, 8), (9,), {**CONVOLUTION, "FusedActivationFunction": 0}),
    ]
    file = tmp_path_factory.mktemp("model") / "net.tflite"
    file.write_bytes(make(tensors, operators, [0], [9]))
    return file


def compiled(model: Path, **options: object) -> lowtide.CompileResult:
    frames = np.random.default_rng(1).normal(size=(4, 1, 8, 8, 4)).astype(np.float32)
    options = {"recipe": "use calibrator minmax", **options}
    return lowtide.compile(model, target="tda4vm", data={"x": frames}, options=options, registry=REGISTRY)


def widths(result: lowtide.CompileResult) -> dict[str, tuple[int | None, int | None]]:
    return {layer.name: (layer.bits, layer.weight_bits) for layer in result.report.layers}


def emitted(result: lowtide.CompileResult, folder: Path) -> dict[str, str]:
    written: Mapping[str, Any] = json.loads(
        (result.save(folder / "out") / "tidl_options.json").read_text("utf-8")
    )
    return {key: written[f"advanced_options:{key}"] for key in (OUTPUTS, PARAMETERS)}


def test_lists_hold_names_of_the_model_file_and_give_the_same_widths(model: Path, tmp_path: Path) -> None:
    wide = compiled(model, mixed_precision_factor=10)
    assert {"x_nchw", "y_nchw"} <= set(widths(wide))
    lists = emitted(wide, tmp_path)
    assert lists == {OUTPUTS: f"x, {STEM}, {LEFT}, {RIGHT}, sum, y", PARAMETERS: ""}
    assert compiled(model, **lists).plan.same_widths(wide.plan)


def test_parameters_are_listed_by_the_tensor_that_the_file_has_for_the_layer(
    model: Path, tmp_path: Path
) -> None:
    wide = compiled(model, **{PARAMETERS: "y"})
    assert widths(wide)["y_nchw"] == (8, 16)
    lists = emitted(wide, tmp_path)
    assert lists == {OUTPUTS: "", PARAMETERS: "y"}
    assert compiled(model, **lists).plan.same_widths(wide.plan)


@pytest.mark.parametrize(("name", "layer"), [("stem/kernel", STEM), ("y/kernel", "y_nchw")])
def test_a_tensor_of_weights_means_the_layer_that_computes_with_it(
    model: Path, name: str, layer: str
) -> None:
    assert widths(compiled(model, **{PARAMETERS: name}))[layer] == (8, 16)


@pytest.mark.parametrize(("name", "known"), [("stem/kernel", STEM), ("y/kernel", "y")])
def test_a_tensor_of_weights_among_outputs_is_refused_with_the_name_of_the_output(
    model: Path, name: str, known: str
) -> None:
    with pytest.raises(OptionError, match=f"'{name}' holds weights, and this list is of outputs") as caught:
        compiled(model, **{OUTPUTS: name})
    assert caught.value.hint == f"write {known}"


@pytest.mark.parametrize("name", ["stem/Relu", "stem/bn", "stem/Conv2D", "stem/bn;stem/Conv2D", STEM])
def test_a_part_of_a_fused_name_means_the_fused_layer(model: Path, name: str) -> None:
    assert widths(compiled(model, **{OUTPUTS: [name]}))[STEM] == (16, 16)
    assert widths(compiled(model, **{PARAMETERS: [name]}))[STEM] == (8, 16)


def test_a_part_of_two_fused_names_is_refused_and_together_with_another_part_it_is_not(model: Path) -> None:
    for option in (OUTPUTS, PARAMETERS):
        with pytest.raises(OptionError, match="'shared' is part of 2 layers") as caught:
            compiled(model, **{option: "shared"})
        assert caught.value.hint == f"name one: {LEFT}, {RIGHT}"
    assert widths(compiled(model, **{PARAMETERS: ["shared;right/Conv2D"]}))[RIGHT] == (8, 16)


def test_names_of_different_layers_that_semicolons_separate_are_several(model: Path) -> None:
    found = widths(compiled(model, **{PARAMETERS: "left/Relu;y"}))
    assert (found[LEFT], found["y_nchw"], found[RIGHT]) == ((8, 16), (8, 16), (8, 8))


@pytest.mark.parametrize("names", [f"stem/Relu, {STEM}", "stem/kernel stem/bn", "left/Relu left/Conv2D"])
def test_two_names_of_one_layer_are_refused_as_one_that_is_given_twice_is(model: Path, names: str) -> None:
    with pytest.raises(OptionError, match="are one layer") as caught:
        compiled(model, **{PARAMETERS: names})
    assert "once" in caught.value.hint


def test_a_remedy_names_a_layer_of_the_model_file(model: Path) -> None:
    findings = compiled(model).report.findings
    remedies = [finding.remedy for finding in findings if "16bit" in finding.remedy]
    assert any("16bit" in remedy for remedy in remedies)
    for remedy in remedies:
        assert "_nchw" not in remedy
        key, _, value = remedy.partition("=")
        compiled(model, **{key: value})


def test_values_of_lists_and_shapes_are_reported_as_a_person_types_them(model: Path) -> None:
    options = {PARAMETERS: "stem/bn y", "input_shapes": {"x": [1, 8, 8, 4]}}
    report = compiled(model, **options).report
    values = {option.name.rpartition(":")[2]: option.value for option in report.options}
    assert values[PARAMETERS] == "stem/bn, y"
    assert values["input_shapes"] == "{x: 1x8x8x4}"
    assert values[OUTPUTS] == ""
