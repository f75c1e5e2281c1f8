"""TFLite operators beside the reference kernels, alone and behind a convolution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lowtide
from lowtide.errors import LowtideError
from lowtide.frontend import ImportRequest
from lowtide.ir import Array, Graph
from lowtide.plugin import discover
from lowtide.runtime import Session, to_model
from lowtide_plugins.frontends.tflite_format.importer import import_model
from lowtide_plugins.frontends.tflite_format.reader import read_model
from tflite_making import Op, T, const, make

litert: Any = pytest.importorskip("ai_edge_litert.interpreter")
REGISTRY = discover()
GENERATOR = np.random.default_rng(7)
SHAPE = (1, 6, 8, 3)


def imported(content: bytes) -> Graph:
    return import_model(read_model(content), ImportRequest(), name="made.tflite")


def reference(content: bytes, feeds: dict[str, Array]) -> dict[str, Array]:
    kinds = litert.OpResolverType
    try:
        interpreter = litert.Interpreter(
            model_content=content, experimental_op_resolver_type=kinds.BUILTIN_REF
        )
    except ValueError:  # some operators have one kernel only
        plain = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = litert.Interpreter(model_content=content, experimental_op_resolver_type=plain)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], feeds[detail["name"]])
    interpreter.invoke()
    return {
        detail["name"]: interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()
    }


def normal(*shape: int) -> Array:
    return GENERATOR.normal(size=shape).astype(np.float32)


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int32)


def convolution(padding: int = 0, stride: int = 1, activation: int = 0, dilation: int = 1) -> dict[str, Any]:
    return {
        "table": "Conv2DOptions",
        "Padding": padding,
        "StrideW": stride,
        "StrideH": stride,
        "FusedActivationFunction": activation,
        "DilationWFactor": dilation,
        "DilationHFactor": dilation,
    }


def compare(content: bytes, *, tolerance: float = 1e-5) -> Graph:
    graph = imported(content)
    feeds = {value.name: normal(*value.type.static_shape) for value in graph.inputs}
    expected = reference(content, feeds)
    found = Session(to_model(graph, quantized=True)).run(feeds)
    assert list(found) == list(expected)
    for name, array in found.items():
        assert array.shape == expected[name].shape
        assert array.dtype == expected[name].dtype
        scale = max(1.0, float(np.abs(expected[name]).max(initial=0)))
        assert np.abs(array.astype(float) - expected[name]).max(initial=0) <= tolerance * scale
    return graph


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("activation", [0, 1, 2, 3])
def test_a_convolution(padding: int, stride: int, activation: int) -> None:
    rows, columns = (-(-6 // stride), -(-8 // stride)) if padding == 0 else (-(-4 // stride), -(-6 // stride))
    tensors = [T(name="x", shape=SHAPE), const("w", normal(5, 3, 3, 3)), const("b", normal(5))]
    tensors.append(T(name="y", shape=(1, rows, columns, 5)))
    compare(
        make(tensors, [Op("CONV_2D", (0, 1, 2), (3,), convolution(padding, stride, activation))], [0], [3])
    )


def test_a_dilated_convolution_with_groups() -> None:
    tensors = [T(name="x", shape=(1, 6, 8, 4)), const("w", normal(6, 3, 3, 2)), const("b", normal(6))]
    tensors.append(T(name="y", shape=(1, 6, 8, 6)))
    compare(make(tensors, [Op("CONV_2D", (0, 1, 2), (3,), convolution(dilation=2))], [0], [3]))


@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_depthwise_convolution(multiplier: int) -> None:
    options = {**convolution(stride=2, activation=3), "table": "DepthwiseConv2DOptions"}
    options["DepthMultiplier"] = multiplier
    tensors = [T(name="x", shape=SHAPE), const("w", normal(1, 3, 3, 3 * multiplier))]
    tensors += [const("b", normal(3 * multiplier)), T(name="y", shape=(1, 3, 4, 3 * multiplier))]
    compare(make(tensors, [Op("DEPTHWISE_CONV_2D", (0, 1, 2), (3,), options)], [0], [3]))


@pytest.mark.parametrize(("padding", "shape"), [(0, (1, 12, 16, 4)), (1, (1, 13, 17, 4))])
def test_a_transposed_convolution(padding: int, shape: tuple[int, ...]) -> None:
    options = {"table": "TransposeConvOptions", "Padding": padding, "StrideW": 2, "StrideH": 2}
    tensors = [const("s", ints(*shape)), const("w", normal(4, 3, 3, 3)), T(name="x", shape=SHAPE)]
    tensors.append(T(name="y", shape=shape))
    compare(make(tensors, [Op("TRANSPOSE_CONV", (0, 1, 2), (3,), options)], [2], [3]))


@pytest.mark.parametrize("shape", [(2, 12), (1, 3, 4), (1, 2, 2, 3)])
def test_a_fully_connected_layer(shape: tuple[int, ...]) -> None:
    depth = shape[-1] if len(shape) == 2 else 12
    rows = int(np.prod(shape)) // depth
    options = {"table": "FullyConnectedOptions", "FusedActivationFunction": 1}
    tensors = [T(name="x", shape=shape), const("w", normal(5, depth)), const("b", normal(5))]
    tensors.append(T(name="y", shape=(rows, 5)))
    compare(make(tensors, [Op("FULLY_CONNECTED", (0, 1, 2), (3,), options)], [0], [3]))


def pool(**changes: int) -> dict[str, Any]:
    return {
        "table": "Pool2DOptions",
        "Padding": 0,
        "StrideW": 2,
        "StrideH": 2,
        "FilterWidth": 3,
        "FilterHeight": 3,
        **changes,
    }


def mask(**changes: int) -> dict[str, Any]:
    return {"table": "StridedSliceOptions", **changes}


F = "FusedActivationFunction"
CASES: list[tuple[str, tuple[Array, ...], tuple[int, ...], dict[str, Any]]] = [
    ("ADD", (normal(3),), SHAPE, {"table": "AddOptions", F: 1}),
    ("SUB", (normal(1, 6, 8, 3),), SHAPE, {"table": "SubOptions"}),
    ("MUL", (normal(8, 3),), SHAPE, {"table": "MulOptions", F: 3}),
    ("DIV", (np.abs(normal(3)) + 1,), SHAPE, {"table": "DivOptions"}),
    ("MAXIMUM", (normal(1),), SHAPE, {}),
    ("MINIMUM", (normal(6, 1, 1),), SHAPE, {}),
    ("SQUARED_DIFFERENCE", (normal(3),), SHAPE, {}),
    ("FLOOR_DIV", (np.abs(normal(3)) + 1,), SHAPE, {}),
    ("FLOOR_MOD", (np.abs(normal(3)) + 1,), SHAPE, {}),
    ("PRELU", (normal(1, 1, 3),), SHAPE, {}),
    ("RELU", (), SHAPE, {}),
    ("RELU6", (), SHAPE, {}),
    ("RELU_N1_TO_1", (), SHAPE, {}),
    ("LEAKY_RELU", (), SHAPE, {"table": "LeakyReluOptions", "Alpha": 0.2}),
    ("ELU", (), SHAPE, {}),
    ("GELU", (), SHAPE, {"table": "GeluOptions", "Approximate": True}),
    ("HARD_SWISH", (), SHAPE, {}),
    ("LOGISTIC", (), SHAPE, {}),
    ("TANH", (), SHAPE, {}),
    ("ABS", (), SHAPE, {}),
    ("EXP", (), SHAPE, {}),
    ("NEG", (), SHAPE, {}),
    ("SQUARE", (), SHAPE, {}),
    ("SIN", (), SHAPE, {}),
    ("COS", (), SHAPE, {}),
    ("FLOOR", (), SHAPE, {}),
    ("CEIL", (), SHAPE, {}),
    ("AVERAGE_POOL_2D", (), (1, 3, 4, 3), pool()),
    ("AVERAGE_POOL_2D", (), (1, 2, 3, 3), pool(Padding=1)),
    ("MAX_POOL_2D", (), (1, 3, 4, 3), pool(FusedActivationFunction=1)),
    ("MEAN", (ints(1, 2),), (1, 1, 1, 3), {"table": "ReducerOptions", "KeepDims": True}),
    ("MEAN", (ints(1, 2),), (1, 3), {"table": "ReducerOptions", "KeepDims": False}),
    ("MEAN", (ints(3),), (1, 6, 8), {"table": "ReducerOptions", "KeepDims": False}),
    ("SUM", (ints(-1),), (1, 6, 8, 1), {"table": "ReducerOptions", "KeepDims": True}),
    ("REDUCE_MAX", (ints(1),), (1, 8, 3), {"table": "ReducerOptions", "KeepDims": False}),
    ("REDUCE_MIN", (ints(2),), (1, 6, 1, 3), {"table": "ReducerOptions", "KeepDims": True}),
    ("SOFTMAX", (), SHAPE, {"table": "SoftmaxOptions", "Beta": 1.0}),
    ("SOFTMAX", (), SHAPE, {"table": "SoftmaxOptions", "Beta": 0.5}),
    ("LOG_SOFTMAX", (), SHAPE, {}),
    ("L2_NORMALIZATION", (), SHAPE, {"table": "L2NormOptions"}),
    ("RESHAPE", (ints(1, 144),), (1, 144), {}),
    ("RESHAPE", (ints(1, 8, 6, 3),), (1, 8, 6, 3), {}),
    ("TRANSPOSE", (ints(0, 2, 1, 3),), (1, 8, 6, 3), {}),
    ("PAD", (np.array([[0, 0], [1, 2], [0, 3], [0, 0]], np.int32),), (1, 9, 11, 3), {}),
    (
        "MIRROR_PAD",
        (np.array([[0, 0], [1, 2], [0, 3], [0, 0]], np.int32),),
        (1, 9, 11, 3),
        {"table": "MirrorPadOptions", "Mode": 0},
    ),
    ("SLICE", (ints(0, 1, 2, 0), ints(1, 3, -1, 2)), (1, 3, 6, 2), {}),
    ("STRIDED_SLICE", (ints(0, 1, 0, 0), ints(1, 5, 8, 3), ints(1, 2, 3, 1)), (1, 2, 3, 3), mask()),
    (
        "STRIDED_SLICE",
        (ints(0, 1, -1, 0), ints(1, 5, 0, 3), ints(1, 1, -2, 1)),
        (1, 4, 4, 3),
        mask(BeginMask=5, EndMask=4),
    ),
    (
        "STRIDED_SLICE",
        (ints(0, 2, 0, 0), ints(1, 3, 8, 3), ints(1, 1, 1, 1)),
        (1, 8, 3),
        mask(ShrinkAxisMask=2),
    ),
    ("RESIZE_BILINEAR", (ints(12, 16),), (1, 12, 16, 3), {"table": "ResizeBilinearOptions"}),
    (
        "RESIZE_BILINEAR",
        (ints(11, 5),),
        (1, 11, 5, 3),
        {"table": "ResizeBilinearOptions", "AlignCorners": True},
    ),
    (
        "RESIZE_BILINEAR",
        (ints(9, 16),),
        (1, 9, 16, 3),
        {"table": "ResizeBilinearOptions", "HalfPixelCenters": True},
    ),
    ("RESIZE_NEAREST_NEIGHBOR", (ints(9, 16),), (1, 9, 16, 3), {"table": "ResizeNearestNeighborOptions"}),
    (
        "RESIZE_NEAREST_NEIGHBOR",
        (ints(9, 13),),
        (1, 9, 13, 3),
        {"table": "ResizeNearestNeighborOptions", "AlignCorners": True},
    ),
    (
        "RESIZE_NEAREST_NEIGHBOR",
        (ints(9, 13),),
        (1, 9, 13, 3),
        {"table": "ResizeNearestNeighborOptions", "HalfPixelCenters": True},
    ),
    ("SPACE_TO_DEPTH", (), (1, 3, 4, 12), {"table": "SpaceToDepthOptions", "BlockSize": 2}),
    ("SPACE_TO_BATCH_ND", (ints(2, 2), np.array([[0, 0], [2, 2]], np.int32)), (4, 3, 6, 3), {}),
    ("TILE", (ints(1, 2, 1, 3),), (1, 12, 8, 9), {}),
    ("GATHER", (ints(4, 0, 4),), (1, 3, 8, 3), {"table": "GatherOptions", "Axis": 1}),
    ("REVERSE_V2", (ints(1),), SHAPE, {}),
    ("ARG_MAX", (ints(3),), (1, 6, 8), {"table": "ArgMaxOptions", "OutputType": 2}),
    ("ARG_MIN", (ints(1),), (1, 8, 3), {"table": "ArgMinOptions", "OutputType": 4}),
]


@pytest.mark.parametrize("behind", [False, True], ids=["alone", "behind a convolution"])
@pytest.mark.parametrize(("code", "constants", "shape", "options"), CASES, ids=[case[0] for case in CASES])
def test_an_operator(
    code: str, constants: tuple[Array, ...], shape: tuple[int, ...], options: dict[str, Any], behind: bool
) -> None:
    dtype = {"ARG_MAX": "int32", "ARG_MIN": "int64"}.get(code, "float32")
    tensors = [T(name="x", shape=SHAPE), T(name="y", dtype=dtype, shape=shape)]
    tensors += [const(f"c{at}", data) for at, data in enumerate(constants)]
    operands = tuple(range(2, 2 + len(constants)))
    if not behind:
        compare(make(tensors, [Op(code, (0, *operands), (1,), options)], [0], [1]))
        return
    tensors += [const("w", normal(3, 1, 1, 3)), const("bias", normal(3)), T(name="h", shape=SHAPE)]
    hidden = len(tensors) - 1
    first = Op("CONV_2D", (0, hidden - 2, hidden - 1), (hidden,), convolution())
    compare(make(tensors, [first, Op(code, (hidden, *operands), (1,), options)], [0], [1]))


def test_joins_and_splits_behind_convolutions_need_no_transposition() -> None:
    tensors = [T(name="x", shape=SHAPE), const("w", normal(4, 1, 1, 3)), T(name="a", shape=(1, 6, 8, 4))]
    tensors += [T(name="b", shape=(1, 6, 8, 4)), T(name="c", shape=(1, 6, 8, 8)), const("axis", ints(3))]
    tensors += [T(name=name, shape=(1, 6, 8, 4)) for name in "def"]
    tensors.append(const("bias", normal(4)))
    operators = [
        Op("CONV_2D", (0, 1, 9), (2,), convolution()),
        Op("CONV_2D", (0, 1, 9), (3,), convolution(activation=1)),
        Op("CONCATENATION", (2, 3), (4,), {"table": "ConcatenationOptions", "Axis": -1}),
        Op("SPLIT", (5, 4), (6, 7), {"table": "SplitOptions", "NumSplits": 2}),
        Op("ADD", (6, 7), (8,), {"table": "AddOptions"}),
    ]
    graph = compare(make(tensors, operators, [0], [8]))
    assert [node.op for node in graph].count("Transpose") == 2


def test_packs_and_unpacks() -> None:
    tensors = [
        T(name="x", shape=(2, 3)),
        T(name="a", shape=(3,)),
        T(name="b", shape=(3,)),
        T(name="y", shape=(3, 2)),
    ]
    operators = [
        Op("UNPACK", (0,), (1, 2), {"table": "UnpackOptions", "Num": 2, "Axis": 0}),
        Op("PACK", (2, 1), (3,), {"table": "PackOptions", "ValuesCount": 2, "Axis": 1}),
    ]
    compare(make(tensors, operators, [0], [3]))


# --- codes ---


def quantized(dtype: str = "int8", *, channels: bool = True) -> bytes:
    """A convolution between integers, with ReLU6."""
    kinds = {"int8": (-20, 0), "uint8": (117, 128), "int16": (0, 0)}
    zero, weight_zero = kinds[dtype]
    stored = np.uint8 if dtype == "uint8" else np.int8
    limits = np.iinfo(stored)
    weights = GENERATOR.integers(limits.min + 1, limits.max, (5, 3, 3, 3), endpoint=True).astype(stored)
    scales = tuple(float(s) for s in np.linspace(0.002, 0.01, 5)) if channels else (0.004,)
    step = 0.05 if dtype != "int16" else 0.0004
    bias = GENERATOR.integers(-2000, 2000, 5).astype(np.int64 if dtype == "int16" else np.int32)
    bias_scale = tuple(float(np.float32(step) * np.float32(s)) for s in scales)
    out = {"int8": (0.0235, -128), "uint8": (0.0235, 0), "int16": (0.0003, 0)}[dtype]
    tensors = [
        T(name="x", dtype=dtype, shape=SHAPE, scale=(step,), zero=(zero,)),
        const("w", weights, scale=scales, zero=(weight_zero,) * len(scales)),
        const("b", bias, scale=bias_scale),
        T(name="y", dtype=dtype, shape=(1, 3, 4, 5), scale=(out[0],), zero=(out[1],)),
    ]
    return make(tensors, [Op("CONV_2D", (0, 1, 2), (3,), convolution(stride=2, activation=3))], [0], [3])


@pytest.mark.parametrize(
    ("dtype", "channels"), [("int8", True), ("int8", False), ("uint8", False), ("int16", True)]
)
def test_an_integer_convolution_is_exact_and_keeps_its_codes(
    dtype: str, channels: bool, tmp_path: Path
) -> None:
    content = quantized(dtype, channels=channels)
    path = tmp_path / "made.tflite"
    path.write_bytes(content)
    result = lowtide.compile(path, target="generic", registry=REGISTRY)
    assert result.device.profile.name == "tflite"
    limits = np.iinfo(dtype)
    for _ in range(3):
        feeds = {"x": GENERATOR.integers(limits.min, limits.max, SHAPE, endpoint=True).astype(dtype)}
        expected = reference(content, feeds)["y"]
        found = result.run(feeds, mode="exact")["y"]
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
        emulated = result.run(feeds, mode="qdq")["y"]
        assert np.abs(emulated.astype(int) - expected.astype(int)).max() <= 1


def test_weights_behind_a_dequantize_or_in_half_precision_are_numbers() -> None:
    half = normal(5, 3, 3, 3).astype(np.float16)
    tensors = [T(name="x", shape=SHAPE), const("h", half), T(name="w", shape=(5, 3, 3, 3))]
    tensors += [const("b", normal(5)), T(name="y", shape=(1, 6, 8, 5))]
    operators = [
        Op("DEQUANTIZE", (1,), (2,)),
        Op("CONV_2D", (0, 2, 3), (4,), convolution()),
    ]
    graph = compare(make(tensors, operators, [0], [4]))
    assert [node.op for node in graph if node.op != "Transpose"] == ["Conv"]


# --- what is refused ---


def spoiled(**changes: Any) -> bytes:
    tensors = [
        T(
            name="x",
            dtype="int8",
            shape=SHAPE,
            scale=changes.get("scale", (0.1,)),
            zero=changes.get("zero", (0,)),
        ),
        T(name="y", dtype="int8", shape=SHAPE, scale=(0.1,), zero=(0,)),
    ]
    return make(tensors, [Op(changes.get("code", "RELU"), changes.get("inputs", (0,)), (1,))], [0], [1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (spoiled(scale=(0.0,)), "tensor x.*positive"),
        (spoiled(scale=(-1.0,)), "tensor x.*positive"),
        (spoiled(scale=(float("nan"),)), "tensor x.*positive"),
        (spoiled(zero=(200,)), "tensor x.*zero point"),
        (spoiled(scale=(0.1, 0.2)), "tensor x.*2 scales for 1 channel"),
        (spoiled(inputs=(1,)), "RELU y.*y.*nothing makes"),
        (spoiled(code="SVDF"), "SVDF y.*recurrent"),
        (spoiled(code="WHILE"), "WHILE y.*control flow"),
        (spoiled(code="VAR_HANDLE"), "VAR_HANDLE y.*variables"),
        (spoiled(code="AcmeOperator"), "AcmeOperator y.*custom"),
        (b"\x1c\0\0\0TFL2" + bytes(60), "TFL3"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(content: bytes, message: str) -> None:
    with pytest.raises(LowtideError, match=message):
        imported(content)
