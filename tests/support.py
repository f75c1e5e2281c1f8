"""What several groups of tests share: the demo network and its data, and the outcome of a command."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

DEMO = Path(str(resources.files("lowtide_plugins.demo")))
MODEL = DEMO / "digits.onnx"
CALIBRATION = DEMO / "digits_calib.npz"
TEST = DEMO / "digits_test.npz"


@attrs.frozen
class Outcome:
    """Exit status and what was printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document that it should be."""
        return json.loads(self.out)


Run = Callable[..., Outcome]


def integer_kernels_saturate() -> bool:
    """Whether ONNX Runtime's integer kernels lose sums on this machine.

    Without VNNI instructions they add pairs of uint8 x int8 products in 16 bits, which saturates (known
    upstream): 255 x 127 + 255 x 127 becomes 32767.
    """
    codes, weights = np.full((1, 64, 4, 4), 255, np.uint8), np.full((16, 64, 1, 1), 127, np.int8)
    zeros = [np.uint8(0), np.int8(0), np.uint8(0)]
    total = 64 * 255 * 127
    constants = {"w": weights, "one": np.float32(1), "step": np.float32(total / 200)}
    constants |= {f"zero{at}": zero for at, zero in enumerate(zeros)}
    operands = ["x", "one", "zero0", "w", "one", "zero1", "step", "zero2"]
    graph = helper.make_graph(
        [helper.make_node("QLinearConv", operands, ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, codes.shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return bool((np.asarray(session.run(None, {"x": codes})[0]) != 200).any())


needs_integer_kernels = pytest.mark.skipif(
    integer_kernels_saturate(), reason="ONNX Runtime's integer kernels saturate on machines without VNNI"
)
