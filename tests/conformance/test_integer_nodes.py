"""ONNX's own tests of quantized operators, in exact execution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import lowtide
from conformance.test_onnx_nodes import cases
from lowtide.plugin import discover

pytestmark = pytest.mark.conformance

REGISTRY = discover()
QUANTIZED = {
    "ConvInteger",
    "DequantizeLinear",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizeLinear",
}
OTHER_TYPES = ("e4m3fn", "e5m2", "int4", "int2", "float4", "blocked_symmetric")
"""Types of elements that no device here has; the last case is one of int4."""

NO_KERNEL = {"test_convinteger_with_padding": "ONNX Runtime takes no zero point per channel in ConvInteger"}


def quantized_cases() -> list[Any]:
    return [
        case
        for case in cases()
        if {node.op_type for node in case.model.graph.node} <= QUANTIZED
        and not any(word in case.name for word in OTHER_TYPES)
    ]


def compiled(case: Any, feeds: list[Any], folder: Path) -> lowtide.CompileResult:
    """The model of a case with all but the first input constant, as quantized networks have them."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    names = [value.name for value in model.graph.input]
    del model.graph.input[1:]
    model.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in zip(names[1:], feeds[1:], strict=False)
    )
    path = folder / f"{case.name}.onnx"
    onnx.save(model, path)
    return lowtide.compile(path, target="generic", registry=REGISTRY, options={"arithmetic": "float32"})


@pytest.mark.parametrize("case", quantized_cases(), ids=lambda case: case.name)
def test_a_quantized_operator_gives_the_codes_that_onnx_wants(case: Any, tmp_path: Path) -> None:
    if case.name in NO_KERNEL:
        pytest.skip(NO_KERNEL[case.name])
    for feeds, expected in case.data_sets:
        result = compiled(case, feeds, tmp_path)
        found = result.run({case.model.graph.input[0].name: feeds[0]}, mode="exact")
        (array,) = found.values()
        assert array.dtype == expected[0].dtype
        np.testing.assert_array_equal(array, expected[0])
