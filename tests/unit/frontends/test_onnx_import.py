from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lowtide.diagnostics import Diagnostics
from lowtide.errors import ModelError, UnsupportedModelError
from lowtide.frontend import ImportRequest
from lowtide.ir import DType, Graph
from lowtide.quantize.codes import quantized_activations
from lowtide.runtime import Session, to_model
from lowtide_plugins.frontends.onnx_format.importer import OnnxFrontend
from support import MODEL

F = TensorProto.FLOAT


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[Any]],
    outputs: dict[str, Sequence[Any]],
    constants: dict[str, NDArray[Any]] | None = None,
    *,
    opset: int = 13,
    dtype: int = F,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def load(tmp_path: Path, proto: onnx.ModelProto, **request: Any) -> Graph:
    onnx.save(proto, tmp_path / "m.onnx")
    return OnnxFrontend().load(tmp_path / "m.onnx", ImportRequest(**request))


def run(graph: Graph, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    return list(Session(to_model(graph, quantized=False)).run(feeds).values())


def agrees_with_onnx_runtime(tmp_path: Path, proto: onnx.ModelProto, *shapes: tuple[int, ...]) -> Graph:
    graph = load(tmp_path, proto)
    generator = np.random.default_rng(0)
    names = [value.name for value in graph.inputs]
    feeds = {n: generator.standard_normal(s).astype(np.float32) for n, s in zip(names, shapes, strict=True)}
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for found, expected in zip(run(graph, feeds), session.run(None, feeds), strict=True):
        np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-5, atol=1e-5)
    return graph


def n(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, f"{op}_node", **attributes)


AXES = {"axes": np.array([1], np.int64)}
CHANGED = [
    (7, n("Softmax", ["x"], ["y"], axis=1), {}),
    (12, n("Softmax", ["x"], ["y"]), {}),
    (13, n("Softmax", ["x"], ["y"]), {}),
    (11, n("LogSoftmax", ["x"], ["y"], axis=1), {}),
    (7, n("Clip", ["x"], ["y"], min=-0.5, max=0.5), {}),
    (11, n("Clip", ["x", "lo"], ["y"]), {"lo": np.array(0.1, np.float32)}),
    (9, n("Upsample", ["x", "s"], ["y"], mode="nearest"), {"s": np.array([1, 1, 2, 2], np.float32)}),
    (7, n("Upsample", ["x"], ["y"], mode="nearest", scales=[1.0, 1.0, 2.0, 2.0]), {}),
    (10, n("Resize", ["x", "s"], ["y"], mode="linear"), {"s": np.array([1, 1, 2, 2], np.float32)}),
    (7, n("Squeeze", ["x"], ["y"], axes=[0]), {}),
    (11, n("Unsqueeze", ["x"], ["y"], axes=[0]), {}),
    (9, n("Slice", ["x"], ["y"], axes=[2], starts=[1], ends=[3]), {}),
    (7, n("Pad", ["x"], ["y"], pads=[0, 0, 1, 1, 0, 0, 2, 2], value=0.5), {}),
    (7, n("ReduceSum", ["x"], ["y"], axes=[1], keepdims=1), {}),
    (11, n("ReduceMean", ["x"], ["y"], axes=[2, 3]), {}),
    (18, n("ReduceMean", ["x", "axes"], ["y"]), AXES),
    (7, n("Dropout", ["x"], ["y"], ratio=0.3), {}),
    (11, n("Split", ["x"], ["y", "z"], axis=1, split=[1, 2]), {}),
    (7, n("Flatten", ["x"], ["y"], axis=2), {}),
    (9, n("TopK", ["x"], ["y", "i"], axis=1, k=2), {}),
    (7, n("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2]), {}),
    (7, n("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]), {}),
    (22, n("HardSwish", ["x"], ["y"]), {}),
    (27, n("Relu", ["x"], ["y"]), {}),
    (28, n("Conv", ["x", "w"], ["y"]), {"w": np.ones((2, 3, 1, 1), np.float32)}),
]


@pytest.mark.parametrize(
    ("opset", "node", "constants"), CHANGED, ids=[f"{c[1].op_type}-{c[0]}" for c in CHANGED]
)
def test_operators_whose_definition_changed_keep_their_meaning(
    tmp_path: Path, opset: int, node: onnx.NodeProto, constants: dict[str, NDArray[Any]]
) -> None:
    outputs: dict[str, Sequence[Any]] = {node.output[0]: [None] * (4 if node.op_type != "Flatten" else 2)}
    if node.op_type == "Squeeze":
        outputs = {"y": [None] * 3}
    if node.op_type == "Unsqueeze":
        outputs = {"y": [None] * 5}
    proto = model([node], {"x": [1, 3, 4, 4]}, outputs, constants, opset=opset)
    if len(node.output) > 1 and node.op_type == "Split":
        proto.graph.output.append(helper.make_tensor_value_info(node.output[1], F, None))
    agrees_with_onnx_runtime(tmp_path, proto, (1, 3, 4, 4))


def test_names_and_places_of_the_file_are_kept(tmp_path: Path) -> None:
    nodes = [n("Relu", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["b"])]
    graph = load(tmp_path, model(nodes, {"x": [1, 2]}, {"b": [1, 2]}))
    relu, neg = graph.nodes
    assert (relu.name, relu.location.model, relu.location.nodes, relu.location.tensors) == (
        "Relu_node",
        "m.onnx",
        ("Relu_node",),
        ("a",),
    )
    assert neg.location.nodes == ("b",)


def test_nodes_of_one_name_stay_apart(tmp_path: Path) -> None:
    graph = load(
        tmp_path, model([n("Relu", ["x"], ["a"]), n("Relu", ["a"], ["b"])], {"x": [1, 2]}, {"b": [1, 2]})
    )
    assert len({node.name for node in graph}) == 2
    assert graph.nodes[1].location.nodes == ("Relu_node",)


def test_weights_that_are_listed_as_inputs_are_constants(tmp_path: Path) -> None:
    proto = model(
        [n("Add", ["x", "w"], ["y"])], {"x": [1, 2], "w": [2]}, {"y": [1, 2]}, {"w": np.ones(2, np.float32)}
    )
    assert [value.name for value in load(tmp_path, proto).inputs] == ["x"]


def test_nodes_in_a_wrong_order_are_brought_into_order(tmp_path: Path) -> None:
    nodes = [n("Neg", ["a"], ["b"]), n("Relu", ["x"], ["a"])]
    assert [node.op for node in load(tmp_path, model(nodes, {"x": [1, 2]}, {"b": [1, 2]}, opset=21))] == [
        "Relu",
        "Neg",
    ]


def test_an_open_batch_becomes_one_and_that_is_said(tmp_path: Path) -> None:
    notes = Diagnostics()
    graph = load(
        tmp_path, model([n("Relu", ["x"], ["y"])], {"x": ["N", 3]}, {"y": ["N", 3]}), diagnostics=notes
    )
    assert graph.inputs[0].type.shape == (1, 3)
    assert graph.outputs[0].type.shape == (1, 3)
    assert [found.code for found in notes] == ["LT451"]


def test_other_open_dimensions_need_a_shape(tmp_path: Path) -> None:
    proto = model([n("Relu", ["x"], ["y"])], {"x": [1, 3, "H", "W"]}, {"y": [1, 3, "H", "W"]})
    with pytest.raises(UnsupportedModelError, match=r"input_shapes\.x=1x3x"):
        load(tmp_path, proto)
    graph = load(tmp_path, proto, input_shapes={"x": (1, 3, 6, 8)})
    assert graph.outputs[0].type.shape == (1, 3, 6, 8)


@pytest.mark.parametrize("shapes", [{"x": (1, 4)}, {"x": (1, 3, 3)}, {"z": (1, 3)}])
def test_a_shape_that_does_not_fit_is_refused(tmp_path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ModelError):
        load(
            tmp_path, model([n("Relu", ["x"], ["y"])], {"x": ["N", 3]}, {"y": ["N", 3]}), input_shapes=shapes
        )


@pytest.mark.parametrize(
    ("kind", "number"), [(TensorProto.FLOAT16, np.float16), (TensorProto.DOUBLE, np.float64)]
)
def test_half_and_double_precision_become_single(tmp_path: Path, kind: int, number: Any) -> None:
    weights = np.array([[0.5, 2.0]], number)
    proto = model(
        [n("Mul", ["x", "w"], ["a"]), n("Cast", ["a"], ["y"], to=kind)],
        {"x": [1, 2]},
        {"y": [1, 2]},
        {"w": weights},
        dtype=kind,
    )
    graph = load(tmp_path, proto)
    assert {value.type.dtype for value in graph.values.values()} == {DType.FLOAT32}
    found = run(graph, {"x": np.array([[3.0, 4.0]], np.float32)})[0]
    np.testing.assert_array_equal(found, [[1.5, 8.0]])


def test_external_data_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    proto = model([n("MatMul", ["x", "w"], ["y"])], {"x": [1, 64]}, {"y": [1, 64]}, {"w": weights}, opset=9)
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    graph = OnnxFrontend().load(tmp_path / "m.onnx", ImportRequest())
    constant = graph.values["w"].constant
    assert constant is not None
    assert isinstance(constant.array(), np.memmap)
    np.testing.assert_array_equal(constant.array(), weights)


def test_truncated_external_data_is_named(tmp_path: Path) -> None:
    proto = model(
        [n("MatMul", ["x", "w"], ["y"])], {"x": [1, 64]}, {"y": [1, 64]}, {"w": np.ones((64, 64), np.float32)}
    )
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"w\.bin.*the file has 5"):
        OnnxFrontend().load(tmp_path / "m.onnx", ImportRequest())


def test_external_data_outside_the_folder_is_refused(tmp_path: Path) -> None:
    proto = model([n("Add", ["x", "w"], ["y"])], {"x": [1, 2]}, {"y": [1, 2]}, {"w": np.ones(2, np.float32)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/hosts")
    with pytest.raises(ModelError, match="outside"):
        load(tmp_path, proto)


def twice(proto: onnx.ModelProto) -> onnx.ModelProto:
    proto.graph.output.append(proto.graph.output[0])
    return proto


def unreadable(proto: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(proto.SerializeToString().replace(b"Relu", b"R\xfflu"))


def loop() -> onnx.NodeProto:
    body = helper.make_graph([], "b", [], [])
    return helper.make_node("Loop", ["x"], ["y"], "forever", body=body)


@pytest.mark.parametrize(
    ("proto", "words"),
    [
        (model([loop()], {"x": [1]}, {"y": [1]}), "control flow.*"),
        (
            model([helper.make_node("Magic", ["x"], ["y"], "m", domain="acme")], {"x": [1]}, {"y": [1]}),
            "acme",
        ),
        (model([n("Relu", ["x"], ["y"])], {"x": [1]}, {"y": [1]}, opset=6), "opset 6"),
        (model([n("Relu", ["x"], ["y"])], {"x": [1]}, {"y": [1]}, dtype=TensorProto.BFLOAT16), "BFLOAT16"),
        (model([n("Relu", ["nowhere"], ["y"])], {"x": [1]}, {"y": [1]}), "nowhere"),
        (model([n("Relu", ["x"], ["y"]), n("Neg", ["x"], ["y"])], {"x": [1]}, {"y": [1]}), "two nodes make"),
        (model([n("Relu", ["x"], ["y"])], {"x": [1]}, {"z": [1]}), "nothing makes this output"),
        (
            model([n("Relu", ["b"], ["a"]), n("Neg", ["a"], ["b"])], {"x": [1]}, {"b": [1]}, opset=21),
            "its own result",
        ),
        (model([n("Relu", ["x"], ["y"])], {"x": [1]}, {"x": [1]}), "input or a constant"),
        (model([], {"x": [1]}, {"x": [1]}), "no nodes"),
        (twice(model([n("Relu", ["x"], ["y"])], {"x": [1]}, {"y": [1]})), "two outputs have this name"),
        (unreadable(model([n("Relu", ["x"], ["y"])], {"x": [1]}, {"y": [1]})), "expected a name in UTF-8"),
        (
            model([n("Relu", ["x"], ["y"])], {"x": ["N", 3, "H", 8]}, {"y": ["N", 3, "H", 8]}),
            re.escape("the shape ?x3x?x8 leaves dimensions open (as --set input_shapes.x=1x3x224x8)"),
        ),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(tmp_path: Path, proto: onnx.ModelProto, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        load(tmp_path, proto)
    assert "m.onnx" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x00", b"not a network at all", bytes(range(256)) * 10])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx"):
        OnnxFrontend().load(tmp_path / "m.onnx", ImportRequest())


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_file_raises_nothing_but_model_errors(data: st.DataObject) -> None:
    content = bytearray(MODEL.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = MODEL.parent / "missing.onnx"
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(bytes(content[: data.draw(st.integers(1, len(content)))]))
    except Exception:  # noqa: BLE001 - the parser of protobuf has its own tests
        return
    from lowtide_plugins.frontends.onnx_format.importer import import_model

    with contextlib.suppress(ModelError):
        import_model(proto, ImportRequest(), name=path.name, folder=path.parent)


@pytest.mark.real
@pytest.mark.skipif("LOWTIDE_REAL_DATA" not in os.environ, reason="LOWTIDE_REAL_DATA names no folder")
def test_published_networks_import_with_the_outputs_of_onnx_runtime_or_are_refused_by_operator() -> None:
    imported = 0
    for path in sorted((Path(os.environ["LOWTIDE_REAL_DATA"]) / "models").glob("*.onnx")):
        try:
            graph = OnnxFrontend().load(path, ImportRequest())
        except UnsupportedModelError as error:
            print(f"{path.name}: {error}")
            continue
        if quantized_activations(graph):
            continue  # codes that differ by rounding multiply; tests of quantized models compare them
        generator = np.random.default_rng(1)
        feeds = {
            value.name: generator.uniform(-1, 1, value.type.static_shape).astype(value.type.dtype.numpy)
            for value in graph.inputs
        }
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for found, result in zip(run(graph, feeds), session.run(None, feeds), strict=True):
            expected = np.asarray(result)
            if expected.dtype.kind == "f":
                scale = max(float(np.abs(expected).max()), 1e-6)
                assert np.abs(found - expected).max() <= 1e-4 * scale, path.name
        imported += 1
    assert imported >= 12
