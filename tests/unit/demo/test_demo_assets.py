from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

FOLDER = Path(__file__).parents[3] / "plugins" / "lowtide_plugins" / "demo"
ASSETS = ("digits.onnx", "digits_calib.npz", "digits_test.npz")

Frames = dict[str, npt.NDArray[np.uint8]]


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx.load(FOLDER / "digits.onnx")


def frames(part: str) -> Frames:
    with np.load(FOLDER / f"digits_{part}.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def logits(model: onnx.ModelProto, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": images.astype(np.float32)})[0], np.float32)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def test_the_network_is_valid_onnx_of_opset_13(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 13)]


def test_the_network_has_the_operators_of_a_mobile_network_with_normalization_unfolded(
    model: onnx.ModelProto,
) -> None:
    count = Counter(node.op_type for node in model.graph.node)
    assert count["Conv"] == count["BatchNormalization"] == count["Clip"] + count["Relu"] == 7
    assert count["Add"] == count["GlobalAveragePool"] == count["Flatten"] == count["Gemm"] == 1


def test_three_convolutions_are_depthwise(model: onnx.ModelProto) -> None:
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    groups = {
        node.name: (attributes(node)["group"], *weights[node.input[1]][:2])
        for node in model.graph.node
        if node.op_type == "Conv" and attributes(node)["group"] > 1
    }
    assert groups == {
        "block1/depthwise": (16, 16, 1),
        "block2/depthwise": (32, 32, 1),
        "block3/depthwise": (32, 32, 1),
    }


def test_folded_depthwise_weights_spread_too_far_for_one_scale_per_tensor(model: onnx.ModelProto) -> None:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    ratios: list[float] = []
    for name in ("block1/depthwise", "block2/depthwise", "block3/depthwise"):
        gain = constants[f"{name}/bn/scale"] / np.sqrt(constants[f"{name}/bn/var"] + 1e-5)
        largest = np.abs(constants[f"{name}/weight"] * gain[:, None, None, None]).max(axis=(1, 2, 3))
        ratios.append(float(largest.max() / largest.min()))
    assert max(ratios) > 127


def test_every_node_has_a_name_of_its_own(model: onnx.ModelProto) -> None:
    names = [node.name for node in model.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_every_clip_is_a_relu6(model: onnx.ModelProto) -> None:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    limits = {
        tuple(constants[name].item() for name in node.input[1:])
        for node in model.graph.node
        if node.op_type == "Clip"
    }
    assert limits == {(0.0, 6.0)}


def test_the_batch_is_dynamic(model: onnx.ModelProto) -> None:
    (image,) = model.graph.input
    (output,) = model.graph.output
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (image, output)
    ]
    assert shapes == [["N", 1, 16, 16], ["N", 10]]
    assert (image.name, output.name) == ("image", "logits")


def test_a_frame_gives_the_same_logits_alone_and_in_a_batch(model: onnx.ModelProto) -> None:
    images = frames("calib")["image"][:5]
    alone = np.concatenate([logits(model, image[np.newaxis]) for image in images])
    np.testing.assert_allclose(logits(model, images), alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("part", ["calib", "test"])
def test_the_network_is_right_on_96_percent_of_the_frames(model: onnx.ModelProto, part: str) -> None:
    data = frames(part)
    assert np.mean(np.argmax(logits(model, data["image"]), axis=1) == data["labels"]) >= 0.96


@pytest.mark.parametrize(("part", "count"), [("calib", 100), ("test", 360)])
def test_frames_are_bytes_that_use_the_whole_range_and_cover_every_class(part: str, count: int) -> None:
    data = frames(part)
    assert {name: (array.shape, array.dtype.name) for name, array in data.items()} == {
        "image": ((count, 1, 16, 16), "uint8"),
        "labels": ((count,), "uint8"),
    }
    assert (data["image"].min(), data["image"].max()) == (0, 255)
    assert set(data["labels"].tolist()) == set(range(10))


def test_no_calibration_frame_is_a_test_frame() -> None:
    calibration, test = ({image.tobytes() for image in frames(part)["image"]} for part in ("calib", "test"))
    assert (len(calibration), len(test)) == (100, 360)
    assert not calibration & test


@pytest.mark.parametrize("part", ["calib", "test"])
def test_frames_are_the_digits_of_the_public_data_set(part: str) -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn, which ships the data set")
    digits = datasets.load_digits()
    known = {
        (image.tobytes(), int(label))
        for image, label in zip(digits.images.astype(np.uint8), digits.target, strict=True)
    }
    data = frames(part)
    small = np.rint(data["image"][:, 0, ::2, ::2] * (16 / 255)).astype(np.uint8)
    pairs = zip(small, data["labels"], strict=True)
    assert {(image.tobytes(), int(label)) for image, label in pairs} <= known


def test_the_shipped_files_are_small() -> None:
    sizes = {name: (FOLDER / name).stat().st_size for name in ASSETS}
    assert sizes["digits.onnx"] < 200_000
    assert sum(sizes.values()) < 500_000


def test_the_network_and_the_readme_credit_the_data(model: onnx.ModelProto) -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for text in (model.doc_string, readme):
        assert "10.24432/C50P49" in text
        assert "CC BY 4.0" in text
