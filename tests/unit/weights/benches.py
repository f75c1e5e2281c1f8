"""Small networks of the kinds that rounding hurts, quantized, with frames and what passes need."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from lowtide.compiler.run import Device, input_specs
from lowtide.data import DataSource, open_data
from lowtide.exact import ExactSession, find_profile
from lowtide.ir import AttributeValue, Constant, DType, Graph, TensorType, Value
from lowtide.ir.shapes import infer_types
from lowtide.options import CompileOptions
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide.quantize.solve import SolveRequest, solve
from lowtide.runtime import Session, to_model
from unit.quantize.solving import request_for

Numbers = NDArray[Any]


@attrs.define
class Maker:
    """Adds layers to a float network."""

    generator: np.random.Generator
    graph: Graph = attrs.field(factory=lambda: Graph("made"))

    def input(self, *shape: int) -> Value:
        return self.graph.add_input("x", TensorType(DType.FLOAT32, shape))

    def constant(self, array: Numbers) -> Value:
        name = self.graph.fresh_name("c")
        return self.graph.add_constant(name, Constant.of(array.astype(np.float32)))

    def node(self, op: str, operands: list[Value | None], **attributes: AttributeValue) -> Value:
        name = self.graph.fresh_name("v")
        made = self.graph.add_node(op, operands, [(name, TensorType(DType.FLOAT32, None))], attributes)
        infer_types(self.graph)
        return made.output

    def layer(self, *values: Value) -> Value:
        """Let the makers of the values be one layer."""
        for value in values:
            assert value.producer is not None
            value.producer.layer = values[-1].name
        return values[-1]

    def conv(
        self, x: Value, outputs: int, kernel: int = 1, *, spread: float = 0.0, depthwise: bool = False
    ) -> Value:
        """A convolution whose output channels differ in size by up to e^(2 spread)."""
        channels = x.type.static_shape[1]
        shape = (outputs, 1 if depthwise else channels, kernel, kernel)
        sizes = np.exp(self.generator.uniform(-spread, spread, outputs)).reshape(-1, 1, 1, 1)
        weights = self.generator.normal(size=shape) * sizes / np.sqrt(np.prod(shape[1:]))
        bias = self.generator.normal(scale=0.3, size=outputs)
        attributes: dict[str, AttributeValue] = {"kernel_shape": (kernel, kernel)}
        attributes |= {"pads": (kernel // 2,) * 4, "group": channels if depthwise else 1}
        return self.node("Conv", [x, self.constant(weights), self.constant(bias)], **attributes)

    def clip(self, x: Value, high: float) -> Value:
        return self.node("Clip", [x, self.constant(np.array(0.0)), self.constant(np.array(high))])

    def done(self, *outputs: Value) -> Graph:
        self.graph.set_outputs(outputs)
        return self.graph


def separable(seed: int, *, high: float = 6.0, spread: float = 2.5) -> Graph:
    """Two depthwise separable blocks; depthwise channels differ in size as in MobileNetV1."""
    make = Maker(np.random.default_rng(seed))
    x = make.input(1, 3, 8, 8)
    x = make.layer(first := make.conv(x, 8, 3), make.clip(first, high))
    for _ in range(2):
        deep = make.conv(x, 8, 3, spread=spread, depthwise=True)
        x = make.layer(deep, make.clip(deep, high))
        point = make.conv(x, 8)
        x = make.layer(point, make.clip(point, high))
    x = make.conv(x, 5)
    make.layer(x)
    return make.done(x)


class Bench:
    """A float network, its quantized form, and the frames of both."""

    def __init__(
        self, reference: Graph, target: str = "tda4vm", number: int = 1, *, frames: int = 24, **more: Any
    ) -> None:
        self.reference = reference
        shape = reference.inputs[0].type.static_shape
        self.arrays = np.random.default_rng(99).normal(0.3, 1.0, (frames, *shape)).astype(np.float32)
        self.request: SolveRequest = request_for(reference, target, number, feeds=self.feeds, **more)
        self.graph = reference.clone()
        solve(self.graph, self.request)
        self.device = Device(find_profile(self.request.rule.arithmetic), frozenset())

    @property
    def feeds(self) -> list[dict[str, Numbers]]:
        return [{"x": array} for array in self.arrays]

    @property
    def frames(self) -> DataSource:
        return open_data(self.arrays, input_specs(self.reference))

    def context(self, options: CompileOptions | None = None) -> PassContext:
        return PassContext(
            options=options,
            target=self.request.target,
            reference=self.reference,
            frames=self.frames,
            rule=self.request.rule,
            request=self.request,
            device=self.device,
        )

    def run(self, step: Pass, options: CompileOptions | None = None) -> PassOutcome:
        return step.run(self.graph, self.context(options))

    def noise(self, graph: Graph | None = None) -> float:
        """Noise by signal of the outputs in exact execution."""
        plain = Session(to_model(self.reference, quantized=False))
        exact = ExactSession(graph or self.graph, self.device.profile)
        noise = signal = 0.0
        for feed in self.feeds:
            for real, made in zip(plain.run(feed).values(), exact.run(feed).values(), strict=True):
                noise += float(np.square(real.astype(np.float64) - made).sum())
                signal += float(np.square(real, dtype=np.float64).sum())
        return noise / signal
