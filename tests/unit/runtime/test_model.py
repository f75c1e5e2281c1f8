"""Graphs become the ONNX models that one would write by hand; ONNX Runtime is the judge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from lowtide.errors import GraphError
from lowtide.ir import Array, Constant, DType, Graph, QuantParams, TensorType
from lowtide.runtime import Session, dequantize, per_axis, to_model

RANDOM = np.random.default_rng(7)
X = RANDOM.uniform(-2, 2, (1, 3, 5, 5)).astype(np.float32)
SHAPE_X, SHAPE_W, SHAPE_Y = (1, 3, 5, 5), (4, 3, 3, 3), (1, 4, 3, 3)
WEIGHTS = RANDOM.integers(-127, 128, SHAPE_W).astype(np.int8)
WEIGHT_SCALES = np.array([0.01, 0.02, 0.004, 0.03], np.float32)
BIAS = RANDOM.integers(-9000, 9000, 4).astype(np.int32)
BIAS_SCALES = (WEIGHT_SCALES * np.float32(0.015)).astype(np.float32)

INPUT = QuantParams("uint8", 0.015, 133)
FORMATS = [
    QuantParams("int8", 0.11, -7),
    QuantParams("uint8", 0.11, 97),
    QuantParams("int16", 0.0005, 0),
    QuantParams("uint16", 0.0005, 30000),
]


def graph(output: QuantParams | None, source: QuantParams | None = INPUT) -> Graph:
    """A convolution with weights per channel and bias in int32, and what follows it."""
    made = Graph("net")
    x = made.add_input("x", TensorType("float32", SHAPE_X, source))
    w_quant = QuantParams("int8", [float(s) for s in WEIGHT_SCALES], 0, 0)
    b_quant = QuantParams("int32", [float(s) for s in BIAS_SCALES], 0, 0)
    w = made.add_constant("w", Constant.of(WEIGHTS), TensorType("float32", SHAPE_W, w_quant))
    b = made.add_constant("b", Constant.of(BIAS), TensorType("float32", (4,), b_quant))
    conv = made.add_node("Conv", [x, w, b], [("y", TensorType("float32", SHAPE_Y, output))])
    made.set_outputs([made.add_node("Neg", [conv.output], [("z", TensorType("float32", SHAPE_Y))]).output])
    return made


def by_hand(
    output: QuantParams | None, source: QuantParams | None, outputs: Sequence[str]
) -> onnx.ModelProto:
    """The same network as QDQ, written with onnx.helper only."""
    nodes: list[onnx.NodeProto] = []
    arrays: dict[str, Array] = {
        "wq": WEIGHTS,
        "ws": WEIGHT_SCALES,
        "wz": np.zeros(4, np.int8),
        "bq": BIAS,
        "bs": BIAS_SCALES,
    }

    def pair(before: str, after: str, quant: QuantParams | None) -> None:
        if quant is None:
            nodes.append(helper.make_node("Identity", [before], [after]))
            return
        arrays[f"{before}.s"] = np.array(quant.scale[0], np.float32)
        arrays[f"{before}.z"] = np.array(quant.zero_point[0], quant.dtype.value)
        parameters = [f"{before}.s", f"{before}.z"]
        nodes.append(helper.make_node("QuantizeLinear", [before, *parameters], [f"{before}.q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{before}.q", *parameters], [after]))

    pair("x", "x.real", source)
    nodes.append(helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["w"], axis=0))
    nodes.append(helper.make_node("DequantizeLinear", ["bq", "bs"], ["b"], axis=0))
    nodes.append(helper.make_node("Conv", ["x.real", "w", "b"], ["y.raw"]))
    pair("y.raw", "y", output)
    nodes.append(helper.make_node("Neg", ["y"], ["z"]))
    made = helper.make_graph(
        nodes,
        "by_hand",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, SHAPE_X)],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, SHAPE_Y) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("output", [None, *FORMATS], ids=str)
@pytest.mark.parametrize("source", [None, INPUT, QuantParams("int16", 0.0001)], ids=str)
def test_a_quantized_graph_is_the_qdq_model_written_by_hand(
    output: QuantParams | None, source: QuantParams | None
) -> None:
    model = to_model(graph(output, source), quantized=True, outputs=["z", "y"])
    onnx.checker.check_model(model, full_check=True)
    ours = Session(model, optimize=False).run({"x": X})
    theirs = Session(by_hand(output, source, ["z", "y"]), optimize=False).run({"x": X})
    assert list(ours) == ["z", "y"]
    for name, expected in theirs.items():
        np.testing.assert_array_equal(ours[name], expected)


def test_a_returned_quantized_value_holds_numbers_of_its_grid_and_keeps_its_name() -> None:
    quant = FORMATS[0]
    result = Session(to_model(graph(quant), quantized=True, outputs=["y"])).run({"x": X})["y"]
    codes = result / np.float32(quant.scale[0]) + quant.zero_point[0]
    np.testing.assert_allclose(codes, np.round(codes), atol=1e-4)
    assert len(np.unique(result)) > 3


def test_reading_a_value_that_is_returned_gives_the_same_result_as_reading_one_that_is_not() -> None:
    made = graph(FORMATS[0])
    alone = Session(to_model(made, quantized=True), optimize=False).run({"x": X})["z"]
    beside = Session(to_model(made, quantized=True, outputs=["y", "z"]), optimize=False).run({"x": X})["z"]
    np.testing.assert_array_equal(alone, beside)


def test_without_quantization_codes_become_real_numbers_and_activations_are_left_alone() -> None:
    model = to_model(graph(FORMATS[0]), quantized=False, outputs=["y", "z"])
    assert {node.op_type for node in model.graph.node} == {"Conv", "Neg"}
    ours = Session(model, optimize=False).run({"x": X})
    theirs = Session(by_hand(None, None, ["y", "z"]), optimize=False).run({"x": X})
    for name, expected in theirs.items():
        np.testing.assert_array_equal(ours[name], expected)


def test_a_quantized_input_that_is_returned_gets_another_name() -> None:
    made = graph(None)
    result = Session(to_model(made, quantized=True, outputs=["x", "z"])).run({"x": X})
    assert list(result) == ["x_dequantized", "z"]
    codes = np.clip(np.round(X / np.float32(0.015)) + 133, 0, 255)
    np.testing.assert_allclose(result["x_dequantized"], (codes - 133) * np.float32(0.015), rtol=1e-6)
    plain = Session(to_model(made, quantized=False, outputs=["x"])).run({"x": X})
    np.testing.assert_array_equal(plain["x"], X)


def test_constants_can_be_returned() -> None:
    made = graph(None)
    for quantized in (False, True):
        result = Session(to_model(made, quantized=quantized, outputs=["w"])).run({"x": X})["w"]
        np.testing.assert_array_equal(result, WEIGHTS * WEIGHT_SCALES.reshape(4, 1, 1, 1))


def test_names_that_look_like_generated_ones_do_not_clash() -> None:
    made = graph(FORMATS[0])
    y = made.values["y"]
    for number, name in enumerate(["y_quantized", "y_scale", "x_dequantized", "y_raw", "w_quantized"]):
        node = made.add_node("Abs", [y], [(name, y.type)], name=["y_QuantizeLinear", *"abcd"][number])
        made.set_outputs([*made.outputs, node.output])
    model = to_model(made, quantized=True, outputs=[value.name for value in (*made.outputs, y)])
    onnx.checker.check_model(model, full_check=True)
    assert list(Session(model).run({"x": X})) == [value.name for value in (*made.outputs, y)]


def test_an_output_that_does_not_exist_comes_with_the_nearest_name() -> None:
    made = graph(None)
    made.rename(made.values["y"], "conv_output")
    with pytest.raises(GraphError, match=r"no such value to return \(did you mean conv_output\?\)"):
        to_model(made, quantized=False, outputs=["conv_otput"])


def test_activations_in_int32_and_other_floats_than_float32_are_refused() -> None:
    made = graph(QuantParams("int32", 1.0))
    with pytest.raises(GraphError, match="y: only constants are quantized to int32"):
        to_model(made, quantized=True)
    half = Graph()
    x = half.add_input("x", TensorType("float16", [1], INPUT))
    half.set_outputs([half.add_node("Neg", [x], [("y", TensorType("float16", [1]))]).output])
    with pytest.raises(GraphError, match="stands for float32, this for float16"):
        to_model(half, quantized=True)
    assert Session(to_model(half, quantized=False)).run({"x": np.ones(1, np.float16)})["y"] == -1


def test_left_out_operands_and_tensors_in_attributes_arrive() -> None:
    made = Graph()
    x = made.add_input("x", TensorType("float32", [3]))
    top = made.add_constant("top", Constant.of(np.float32(1)))
    clip = made.add_node("Clip", [x, None, top], [("c", x.type)])
    fill = made.add_node(
        "Constant", [], [("f", x.type)], {"value": Constant.of(np.array([1, 2, 3], np.float32))}
    )
    made.set_outputs([made.add_node("Add", [clip.output, fill.output], [("y", x.type)]).output])
    result = Session(to_model(made, quantized=True)).run({"x": np.array([-5, 0, 5], np.float32)})
    assert result["y"].tolist() == [-4.0, 2.0, 4.0]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32"])
@pytest.mark.parametrize("axis", [None, 1])
def test_dequantize_is_dequantize_linear_to_the_last_bit(dtype: str, axis: int | None) -> None:
    kind = DType(dtype)
    codes = RANDOM.integers(kind.min, kind.max, (6, 3, 4), endpoint=True).astype(dtype)
    zero = 0 if kind is DType.INT32 else kind.max // 3
    quant = QuantParams(kind, [0.013, 1e-5, 77.7] if axis else 0.013, zero, axis)
    shape = () if axis is None else (3,)
    node = helper.make_node("DequantizeLinear", ["c", "s", "z"], ["y"], axis=1)
    made = helper.make_graph(
        [node],
        "g",
        [],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, codes.shape)],
        [
            numpy_helper.from_array(codes, "c"),
            numpy_helper.from_array(np.array(quant.scale, np.float32).reshape(shape), "s"),
            numpy_helper.from_array(np.array(quant.zero_point, dtype).reshape(shape), "z"),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    expected = Session(model, optimize=False).run({})["y"]
    np.testing.assert_array_equal(dequantize(codes, quant), expected)


def test_parameters_broadcast_along_their_axis() -> None:
    quant = QuantParams("int8", [1.0, 2.0], 0, 1)
    assert per_axis(np.array([1.0, 2.0]), quant, 3).shape == (1, 2, 1)
    assert per_axis(np.array([1.0]), QuantParams("int8", 1.0), 3).shape == ()
