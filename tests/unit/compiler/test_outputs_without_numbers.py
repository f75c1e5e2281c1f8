"""Networks that end with indices, or with as many elements as data want."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

import lowtide
from lowtide.compiler.held_out import HeldOut
from lowtide.compiler.run import input_specs, run_frames
from lowtide.data import DataSource, open_data
from lowtide.errors import OptionError
from lowtide.measure import judged_values
from lowtide.plugin import discover
from lowtide.tuning.judge import Judge
from lowtide_plugins.metrics.signal import Sqnr

REGISTRY = discover()
GATHER = [
    helper.make_node("NonZero", ["r2"], ["found"]),
    helper.make_node("Transpose", ["found"], ["places"], perm=[1, 0]),
    helper.make_node("GatherND", ["r2", "places"], ["y"]),
]
KEPT = [
    *GATHER[:2],
    helper.make_node("GatherND", ["r2", "places"], ["kept"]),
    helper.make_node("Unsqueeze", ["kept", "last"], ["column"]),
    helper.make_node("MatMul", ["column", "row"], ["y"]),
]
ENDS: dict[str, tuple[Sequence[onnx.NodeProto], int, Sequence[int | None]]] = {
    "argmax": ([helper.make_node("ArgMax", ["r2"], ["y"], axis=1)], TensorProto.INT64, [1, 1, 8, 8]),
    "topk": (
        [helper.make_node("TopK", ["r2", "two"], ["most", "y"], axis=1)],
        TensorProto.INT64,
        [1, 2, 8, 8],
    ),
    "cast": (
        [helper.make_node("Cast", ["r2"], ["y"], to=TensorProto.INT32)],
        TensorProto.INT32,
        [1, 4, 8, 8],
    ),
    "nonzero": ([helper.make_node("NonZero", ["r2"], ["y"])], TensorProto.INT64, [4, None]),
    "gather": (GATHER, TensorProto.FLOAT, [None]),
    "matmul": (KEPT, TensorProto.FLOAT, [None, 3]),
}


def frames() -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((12, 3, 8, 8)).astype(np.float32)


def network(folder: Path, end: str, *, real: bool = False) -> Path:
    """Three convolutions before an end; `real` returns what they give too."""
    generator = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, NDArray[Any]] = {
        "two": np.array([2]),
        "last": np.array([1]),
        "row": np.array([[1.0, -2.0, 3.0]], np.float32),
    }
    for at, (read, made) in enumerate([(3, 8), (8, 8), (8, 4)]):
        weights = generator.standard_normal((made, read, 3, 3)) / np.sqrt(9 * read)
        constants[f"w{at}"] = weights.astype(np.float32)
        constants[f"b{at}"] = np.full(made, 0.1, np.float32)
        source = f"r{at - 1}" if at else "x"
        nodes.append(helper.make_node("Conv", [source, f"w{at}", f"b{at}"], [f"c{at}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{at}"], [f"r{at}"]))
    behind, dtype, shape = ENDS[end]
    outputs = [helper.make_tensor_value_info("y", dtype, shape)]
    if real:
        outputs.append(helper.make_tensor_value_info("r2", TensorProto.FLOAT, [1, 4, 8, 8]))
    used = {name for node in [*nodes, *behind] for name in node.input}
    held = [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])]
    graph = helper.make_graph([*nodes, *behind], "n", given, outputs, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / f"{end}.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> str:
    np.save(tmp_path / "frames.npy", frames())
    return str(tmp_path / "frames.npy")


def compiled(model: Path, data: str, target: str = "am68a", **options: Any) -> lowtide.CompileResult:
    return lowtide.compile(model, target=target, data=data, options=options, registry=REGISTRY)


def source(result: lowtide.CompileResult, data: str) -> DataSource:
    return open_data(data, input_specs(result.reference))


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("level", [0, 1])
def test_a_network_is_compiled_whatever_it_ends_with(tmp_path: Path, data: str, end: str, level: int) -> None:
    result = compiled(network(tmp_path, end), data, accuracy_level=level)
    assert result.report.outputs == ()
    shown = {layer.name: layer.sqnr_cumulative_db for layer in result.report.layers}
    assert 20 < (shown["r2"] or 0) < 60
    loose = [entry for entry in result.report.diagnostics if entry.code == "LT888"]
    assert [entry.place.split(", ")[0] for entry in loose] == ([] if ENDS[end][2].count(None) == 0 else ["y"])


def test_a_network_without_any_number_is_compiled(tmp_path: Path, data: str) -> None:
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])]
    made = [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 3, 8, 8])]
    cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT32)
    graph = helper.make_graph([cast], "n", given, made)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "cast.onnx",
    )
    result = compiled(tmp_path / "cast.onnx", data)
    frame = frames()[0]
    np.testing.assert_array_equal(result.run(frame)["y"], frame[np.newaxis].astype(np.int32))


def test_a_network_that_quantizes_as_it_runs_is_compiled(tmp_path: Path, data: str) -> None:
    quantize_dynamic(
        network(tmp_path, "gather", real=True), tmp_path / "dynamic.onnx", weight_type=QuantType.QUInt8
    )
    result = compiled(tmp_path / "dynamic.onnx", data, accuracy_level=1)
    assert any("DynamicQuantizeLinear" in layer.reason for layer in result.report.layers)
    assert next(entry.sqnr_db for entry in result.report.outputs if entry.name == "r2") > 20


@pytest.mark.parametrize("target", ["tda4vm", "generic"])
def test_indices_end_a_network_on_every_kind_of_device(tmp_path: Path, data: str, target: str) -> None:
    result = compiled(network(tmp_path, "argmax"), data, target, accuracy_level=1)
    assert result.report.measured_frames > 0
    assert result.report.agreement is not None
    assert result.report.agreement.layers > 0


@pytest.mark.parametrize("end", ENDS)
def test_what_has_no_numbers_to_compare_is_judged_by_what_it_is_made_from(
    tmp_path: Path, data: str, end: str
) -> None:
    result = compiled(network(tmp_path, end), data, accuracy_level=0)
    plain = compiled(network(tmp_path, end, real=True), data, accuracy_level=0)
    assert [value.name for value in judged_values(result.graph)] == ["r2"]
    held_out = HeldOut(result.reference, source(result, data))
    found = held_out.error(result.graph, result.device)
    (sums,) = [entry for entry in plain.report.outputs if entry.name == "r2"]
    assert -10 * np.log10(found) == pytest.approx(sums.sqnr_db, abs=1.0)


def test_steps_of_a_recipe_are_kept_for_a_network_that_ends_with_indices(tmp_path: Path, data: str) -> None:
    def tried(real: bool) -> list[tuple[str, bool]]:
        model = network(tmp_path, "argmax", real=real)
        return [(step.step, step.kept) for step in compiled(model, data, accuracy_level=1).report.steps]

    found = tried(real=False)
    assert any(kept for _, kept in found)
    assert found == tried(real=True)


@pytest.mark.parametrize("end", ["argmax", "gather"])
def test_widths_are_searched_for_by_what_indices_are_made_from(tmp_path: Path, data: str, end: str) -> None:
    result = compiled(network(tmp_path, end), data, mixed_precision_factor=1.5, accuracy_level=0)
    wide = [
        value for value in result.graph.values.values() if value.type.quant and value.type.quant.bits == 16
    ]
    assert wide


def test_a_goal_of_sqnr_wants_an_output_with_numbers(tmp_path: Path, data: str) -> None:
    with pytest.raises(OptionError, match="no output holds numbers"):
        compiled(network(tmp_path, "argmax"), data, goal="sqnr>=30")


def test_the_share_of_indices_that_differ_stands_for_noise_by_signal(tmp_path: Path, data: str) -> None:
    result = compiled(network(tmp_path, "argmax"), data, accuracy_level=0)
    figures, _ = Judge(metric=Sqnr, frames=source(result, data)).figures(result)
    pairs = zip(
        run_frames(result.reference, source(result, data), "float"),
        run_frames(result.graph, source(result, data), "exact", result.device),
        strict=True,
    )
    share = np.mean(
        [next(iter(real.values())) != next(iter(made.values())) for (_, real), (_, made) in pairs]
    )
    assert 0 < share < 0.2
    assert figures.sqnr_db == pytest.approx(-10 * np.log10(share))
    assert figures.metric == figures.sqnr_db


def test_an_output_with_another_number_of_elements_is_lost() -> None:
    metric = Sqnr()
    metric.sums.add_outputs({"y": np.ones(3, np.float32)}, {"y": np.ones(2, np.float32)})
    metric.sums.add_outputs({"y": np.ones(3, np.float32)}, {"y": np.ones(3, np.float32)})
    assert metric.value() == pytest.approx(10 * np.log10(2))
