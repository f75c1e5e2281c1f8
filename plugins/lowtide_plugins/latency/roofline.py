"""A roofline by layer: the units of a device work side by side, and the slowest gives the time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import attrs

from lowtide.latency import Bound, LatencyModel, LatencyProblem, LayerCost, LayerWork, MatrixWork, TensorWork

FLOAT_BYTES = 4
WIDEST_CODES = 16


def _positive(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{attribute.name} should be above 0, found {value}")


def _not_negative(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{attribute.name} should not be negative, found {value}")


@attrs.frozen(kw_only=True)
class Roofline(LatencyModel):
    """The larger of compute and memory traffic, and a start for each layer.

    Products run on an array of ``array * array`` multipliers at 8 bits, of which a layer fills what its
    channels allow; at 16 bits the array has half the side. Depthwise products and single elements run on the
    vector unit, which handles half as many of twice the width. A tensor that fits into the memory on the chip
    stays there; parameters and larger tensors come from the memory outside. A tensor between accelerator and
    host crosses that memory in float as well. A layer that only names elements in another way costs nothing.
    A layer whose tensors differ in width works at the widest of them, which is what a change of width costs.

    Attributes:
        clock_ghz: of all units.
        array: side of the matrix array in 8-bit elements.
        efficiency: share of the peak rate that a layer reaches which fills the array.
        depthwise_rate: depthwise multiply-accumulates a cycle at 8 bits.
        vector_rate: 8-bit elements that the vector unit handles in a cycle.
        function_rate: 8-bit elements that go through a function in a cycle.
        on_chip_kb: size of a tensor that stays on the chip.
        on_chip_gbps: traffic with that memory, in 10^9 bytes a second.
        ddr_gbps: traffic with the memory outside.
        spill: bytes that cross it for each byte of a tensor that does not stay: less than 1 where several
            layers are computed tile by tile, more where tiles overlap.
        layer_us: start of a layer.
        call_us: start of each part of a network on the accelerator.
        host_gops: operations of the host in a nanosecond, a multiply-accumulate being one.
        host_us: start of a layer on the host.
    """

    name: ClassVar[str] = "roofline"
    clock_ghz: float = attrs.field(default=1.0, validator=_positive)
    array: int = attrs.field(validator=_positive)
    efficiency: float = attrs.field(default=1.0, validator=_positive)
    depthwise_rate: float = attrs.field(validator=_positive)
    vector_rate: float = attrs.field(validator=_positive)
    function_rate: float = attrs.field(validator=_positive)
    on_chip_kb: float = attrs.field(validator=_positive)
    on_chip_gbps: float = attrs.field(validator=_positive)
    ddr_gbps: float = attrs.field(validator=_positive)
    spill: float = attrs.field(default=1.0, validator=_not_negative)
    layer_us: float = attrs.field(validator=_not_negative)
    call_us: float = attrs.field(default=0.0, validator=_not_negative)
    host_gops: float = attrs.field(validator=_positive)
    host_us: float = attrs.field(default=0.0, validator=_not_negative)

    def layer_ms(
        self, layer: LayerWork, in_bits: Mapping[str, int], out_bits: int, weight_bits: int
    ) -> LayerCost:
        """See `LatencyModel.layer_ms`."""
        read = [(tensor, in_bits.get(tensor.name, tensor.bits)) for tensor in layer.inputs]
        tensors = [*read, *((tensor, out_bits) for tensor in layer.outputs)]
        traffic = sum(tensor.elements * bits for tensor, bits in tensors) / 8
        parameters = layer.parameters * weight_bits / 8
        size = round(traffic + parameters)
        if layer.host:
            return _cost(layer, self._host_ms(layer), "host", size, "layers on the host")
        if not (layer.matrices or layer.vector_ops or layer.function_ops):
            return _cost(layer, 0.0, "overhead", size)
        operand = _code_bits([*(bits for _, bits in read), *([weight_bits] if layer.parameters else [])])
        widest = max(operand, _code_bits([out_bits]))
        outside = parameters + sum(self._outside(tensor, bits) for tensor, bits in tensors)
        us: dict[Bound, float] = {
            "compute": self._products(layer, operand) / self.clock_ghz * 1e-3,
            "vector": self._elements(layer, operand, widest) / self.clock_ghz * 1e-3,
            "ddr": outside / self.ddr_gbps * 1e-3,
            "on-chip": traffic / self.on_chip_gbps * 1e-3,
        }
        bound = max(us, key=lambda unit: us[unit])
        ms = (us[bound] + self.layer_us) * 1e-3
        return _cost(layer, ms, "overhead" if self.layer_us > us[bound] else bound, size, _why(layer, widest))

    def call_ms(self, problem: LatencyProblem) -> float:
        """See `LatencyModel.call_ms`."""
        return self.call_us * 1e-3 * len(problem.placement.subgraphs)

    def _products(self, layer: LayerWork, bits: int) -> float:
        """Cycles of the matrix array."""
        dense = [matrix for matrix in layer.matrices if not matrix.depthwise]
        return sum(self._matrix(matrix, bits) for matrix in dense) / self.efficiency

    def _matrix(self, matrix: MatrixWork, bits: int) -> float:
        """Cycles at full rate.

        A block of the input stays for as many rows as there are, and at least until the next one is loaded.
        """
        side = max(1, self.array * 8 // bits)
        blocks = math.ceil(matrix.depth / side) * math.ceil(matrix.columns / side)
        return matrix.groups * blocks * max(matrix.rows, self.array)

    def _elements(self, layer: LayerWork, operand: int, widest: int) -> float:
        """Cycles of the vector unit."""
        depthwise = sum(matrix.macs for matrix in layer.matrices if matrix.depthwise)
        return (
            depthwise * operand / 8 / self.depthwise_rate
            + layer.vector_ops * widest / 8 / self.vector_rate
            + layer.function_ops * widest / 8 / self.function_rate
        )

    def _outside(self, tensor: TensorWork, bits: int) -> float:
        """Bytes of a tensor that cross the memory outside."""
        if tensor.border:
            return tensor.elements * (bits / 8 + FLOAT_BYTES)
        size = tensor.elements * bits / 8
        return size * self.spill if size > self.on_chip_kb * 1024 else 0.0

    def _host_ms(self, layer: LayerWork) -> float:
        if not (layer.matrices or layer.vector_ops or layer.function_ops):
            return 0.0
        return (
            self.host_us * 1e-3 + (layer.macs + layer.vector_ops + layer.function_ops) / self.host_gops * 1e-6
        )


def _code_bits(widths: Iterable[int]) -> int:
    """The widest of some codes; float numbers and indices, which are wider, are converted on the way."""
    return max((bits for bits in widths if bits <= WIDEST_CODES), default=8)


def _why(layer: LayerWork, widest: int) -> str:
    """Why the figure of a layer lies outside of what published times can tell."""
    if not layer.static:
        return "shapes that only a run tells"
    if widest > 8:
        return "codes of more than 8 bits"
    return "functions" if layer.function_ops else ""


def _cost(layer: LayerWork, ms: float, bound: Bound, size: int, why: str = "") -> LayerCost:
    return LayerCost(layer=layer.name, ms=ms, bound=bound, macs=layer.macs, bytes=size, extrapolated=why)
