"""Networks with a fault that was put in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lowtide.compiler.request import CompileRequest
from lowtide.compiler.stages import Compilation
from lowtide.compiler.summary import build_report
from lowtide.diagnosis import remedy_options
from lowtide.measure.gates import FIGURES
from lowtide.options import OptionLayer
from lowtide.plugin import discover
from lowtide.report.model import Finding
from support import CALIBRATION, MODEL

RECIPE = "use calibrator minmax; try weights correct-bias"
"""What the faults are found under, whatever the recipes of devices become."""

Array = NDArray[np.float32]
REGISTRY = discover()

RECIPE = "use calibrator minmax; use weights correct-bias"
"""What is wrong is to be seen: the default recipe mends much of it."""


@attrs.frozen
class Diagnosed:
    """A compile of a network with a fault."""

    compilation: Compilation
    sqnr_db: float

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.compilation.findings

    def of(self, layer: str) -> dict[str, Finding]:
        """What was found of one layer, by code."""
        return {finding.code: finding for finding in self.findings if finding.layer == layer}


def diagnosed(
    model: onnx.ModelProto, path: Path, data: object, target: str, options: Mapping[str, object] | None = None
) -> Diagnosed:
    file = path / "net.onnx"
    onnx.save(model, file)
    request = CompileRequest(
        model=file,
        target=target,
        data=data,
        frames=24,
        options=[OptionLayer("test", {"recipe": RECIPE, **(options or {})})],
        registry=REGISTRY,
    )
    made = Compilation.begin(request)
    made.run()
    report = attrs.asdict(build_report(made, {}))
    found = FIGURES["sqnr"](report)
    assert found is not None
    return Diagnosed(made, found)


def followed(
    model: onnx.ModelProto,
    path: Path,
    data: object,
    target: str,
    *findings: Finding,
    options: Mapping[str, object] | None = None,
) -> Diagnosed:
    """The same network with the remedies of findings."""
    return diagnosed(model, path, data, target, {**(options or {}), **remedy_options(findings)})


def followed_on(
    model: onnx.ModelProto,
    path: Path,
    data: object,
    target: str,
    first: Finding,
    *,
    options: Mapping[str, object],
) -> Diagnosed:
    """The same network after the remedy of one finding, and then of all that come into sight behind it."""
    joined = {**options, **remedy_options([first])}
    found = diagnosed(model, path, data, target, joined)
    return diagnosed(model, path, data, target, {**joined, **remedy_options(found.findings)})


def demo(change: Callable[[str, Array], Array] | None = None) -> onnx.ModelProto:
    """The network of the demo, its constants changed."""
    model = onnx.load(MODEL)
    if change is not None:
        for tensor in model.graph.initializer:
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(change(tensor.name, array.copy()), tensor.name))
    return model


DIGITS = str(CALIBRATION)


def without_node(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A network without one node; who read its output reads its first input."""
    (node,) = (node for node in model.graph.node if node.name == name)
    model.graph.node.remove(node)
    for other in model.graph.node:
        for position, read in enumerate(other.input):
            if read == node.output[0]:
                other.input[position] = node.input[0]
    return model


@attrs.define
class Builder:
    """Builds a network node by node; weights are drawn anew, always the same."""

    shape: tuple[int, ...] = (1, 4, 12, 12)
    nodes: list[onnx.NodeProto] = attrs.field(factory=list)
    constants: list[onnx.TensorProto] = attrs.field(factory=list)
    random: np.random.Generator = attrs.field(factory=lambda: np.random.default_rng(5))

    def constant(self, name: str, array: NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def node(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        return name

    def conv(
        self,
        name: str,
        source: str,
        shape: tuple[int, int],
        *,
        kernel: int = 1,
        group: int = 1,
        scale: object = 1.0,
        bias: object = 0.0,
        unread: int | None = None,
    ) -> str:
        """A convolution ``[out, in]``; `scale` and `bias` are for each output channel, or for all.

        `unread` is an input channel with weights of zero.
        """
        out, depth = shape[0], shape[1] // group * kernel * kernel
        weights = self.random.normal(0, depth**-0.5, (out, shape[1] // group, kernel, kernel))
        weights *= np.broadcast_to(np.asarray(scale, float), (out,)).reshape(-1, 1, 1, 1)
        if unread is not None:
            weights[:, unread] = 0.0
        return self.node(
            "Conv",
            name,
            source,
            self.constant(f"{name}/w", weights),
            self.constant(f"{name}/b", np.broadcast_to(np.asarray(bias, float), (out,))),
            pads=[kernel // 2] * 4,
            kernel_shape=[kernel, kernel],
            group=group,
        )

    def model(self, *outputs: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)

    def frames(self, count: int = 12) -> Array:
        return np.random.default_rng(3).normal(0, 1, (count, *self.shape[1:])).astype(np.float32)
