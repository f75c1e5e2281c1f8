"""Where the files of ``quant_params_proto_path`` are read and written."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

import lowtide
from lowtide.errors import OptionError
from lowtide.plugin import discover
from support import CALIBRATION, MODEL

REGISTRY = discover()
PARTS = {"deny_list:layer_name": "block2/depthwise/relu6"}
"""Two parts on the accelerator."""


def compiled(
    proto: Path, model: Path = MODEL, target: str = "am68a", options: Mapping[str, object] | None = None
) -> lowtide.CompileResult:
    named = {"quant_params_proto_path": str(proto), **(options or {})}
    return lowtide.compile(model, target=target, data=str(CALIBRATION), options=named, registry=REGISTRY)


def codes(result: lowtide.CompileResult) -> dict[str, object]:
    return {name: (value.type, value.constant) for name, value in result.graph.values.items()}


def notes(result: lowtide.CompileResult, code: str) -> list[str]:
    return [f"{found.message} {found.hint}" for found in result.report.diagnostics if found.code == code]


def test_a_new_proto_replaces_the_network_that_the_old_one_was_for(tmp_path: Path) -> None:
    proto = tmp_path / "p.prototxt"
    compiled(proto, options={"accuracy_level": 0})
    proto.unlink()
    second = compiled(proto, options={"condition": "equalize", "accuracy_level": 1})
    assert codes(compiled(proto, tmp_path / "p.onnx")) == codes(second)


def test_a_model_with_the_name_of_the_network_stays_and_the_report_says_where_the_network_is(
    tmp_path: Path,
) -> None:
    model, proto = tmp_path / "net.onnx", tmp_path / "net.prototxt"
    shutil.copy(MODEL, model)
    first = compiled(proto, model)
    assert model.read_bytes() == MODEL.read_bytes()
    network = tmp_path / "net_network.onnx"
    assert str(network) in notes(first, "LT868")[0]
    assert codes(compiled(proto, network)) == codes(first)


def test_a_network_that_is_compiled_is_not_replaced_by_the_result(tmp_path: Path) -> None:
    proto, network = tmp_path / "p.prototxt", tmp_path / "p.onnx"
    compiled(proto)
    proto.unlink()
    before = network.read_bytes()
    assert notes(compiled(proto, network, options={"condition": "equalize"}), "LT868")
    assert network.read_bytes() == before


def test_the_network_to_compile_instead_is_never_the_one_that_was_compiled(tmp_path: Path) -> None:
    proto = tmp_path / "net.prototxt"
    shutil.copy(MODEL, tmp_path / "net.onnx")
    model = tmp_path / "net.onnx"
    compiled(proto, model, "tda4vm", options={"condition": "equalize"})
    found = notes(compiled(proto, model, "tda4vm"), "LT866")
    assert found
    assert all("net_network.onnx" in text for text in found)
    (tmp_path / "net_network.onnx").unlink()
    found = notes(compiled(proto, model, "tda4vm"), "LT866")
    assert found
    assert not any("net.onnx" in text for text in found)


def test_a_folder_is_no_proto(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"is a folder \(name the file: .*quant_params.prototxt\)"):
        compiled(tmp_path)


def test_one_part_of_several_is_refused_and_the_name_of_all_is_said(tmp_path: Path) -> None:
    compiled(tmp_path / "p.prototxt", options=PARTS)
    with pytest.raises(
        OptionError, match=r"2 parts .*p_1_0.*\(name all parts, without a number: .*p.prototxt"
    ):
        compiled(tmp_path / "p_1.prototxt", options=PARTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.onnx", "p_0.prototxt", "p_1.prototxt"]
    read = compiled(tmp_path / "p.prototxt", options=PARTS)
    assert read.report.ranges_from == str(tmp_path / "p.prototxt")


def test_files_of_another_number_of_parts_are_not_passed_over(tmp_path: Path) -> None:
    compiled(tmp_path / "one.prototxt")
    with pytest.raises(OptionError, match=r"one.prototxt is one file, and the accelerator has 2 parts"):
        compiled(tmp_path / "one.prototxt", options=PARTS)
    compiled(tmp_path / "two.prototxt", options=PARTS)
    with pytest.raises(OptionError, match=r"two_0.prototxt is the first of several parts"):
        compiled(tmp_path / "two.prototxt")
