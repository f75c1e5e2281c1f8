"""The factors of channels that are scaled together, and what frames show of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs
import numpy as np

from lowtide.data import DataSource
from lowtide.ir import Array, Constant, Graph, Node, TensorType, Value, layers
from lowtide.passes import PassContext
from lowtide.runtime import Session, in_flight, to_model
from lowtide_plugins.passes.rewrite import array_of, write_constant
from lowtide_plugins.weights.channels import ChannelGroup, Product, channels_of
from lowtide_plugins.weights.importance import output_gains

REACHED = 1 - 1e-6
"""A channel whose largest element is this share of a limit, or more, reaches it."""

SETTLED = 0.01
"""Octaves by which no factor changes any more when they are good enough."""

CODES = 128
"""A step of 8-bit weights and activations is about the largest magnitude by this."""

TINY = 1e-12
"""Smaller sizes count as this."""


@attrs.frozen(kw_only=True)
class Bounds:
    """How far channels may be scaled, and for how long.

    Attributes:
        iterations: how often all groups are gone through, at most.
        limit: the largest factor and the inverse of the smallest.
        margin: room that is left below a Clip, as a share of its limit.
    """

    iterations: int = 20
    limit: float = 256.0
    margin: float = 0.25


def scalings_of(  # noqa: PLR0917 - all of them decide on the factors
    graph: Graph,
    groups: Sequence[ChannelGroup],
    products: Mapping[Node, Product],
    measured: Mapping[str, Channels],
    one_step: Mapping[Node, bool],
    bounds: Bounds,
) -> list[Scaling]:
    """The factors of all groups, 1 so far; groups with tensors that were not measured are left out."""
    gains = output_gains(graph)
    return [
        Scaling(group, measured, gains, products, one_step, bounds)
        for group in groups
        if all(value.name in measured for value in group.outputs)
    ]


def products_of(groups: Iterable[ChannelGroup]) -> dict[Node, Product]:
    """The products around groups; one that lies between two of them takes the factors of both."""
    nodes = dict.fromkeys(node for group in groups for node in (*group.producers, *group.consumers))
    return {node: Product(node) for node in nodes}


def settle(scalings: Sequence[Scaling], bounds: Bounds) -> None:
    """Bring the factors of all groups to what is best beside those of the others."""
    for _ in range(bounds.iterations):
        if max((scaling.step() for scaling in scalings), default=0.0) < SETTLED:
            break


def write(graph: Graph, scalings: Sequence[Scaling]) -> int:
    """Store the factors in weights and gates; how many channels have one."""
    for scaling in scalings:
        if scaling.group.gates:
            scaling.undo_in_gates(graph)
    moved = [scaling for scaling in scalings if scaling.moved]
    for product in dict.fromkeys(p for found in moved for p in (*found.producers, *found.consumers)):
        product.write(graph)
    return sum(scaling.moved for scaling in moved)


class Scaling:
    """The factors of one group.

    Attributes:
        factors: what every channel is multiplied by so far.
        top: the largest magnitude of every channel over all frames and tensors, unscaled.
    """

    def __init__(  # noqa: PLR0917 - all of them decide on the factors
        self,
        group: ChannelGroup,
        measured: Mapping[str, Channels],
        gains: Mapping[str, Array],
        products: Mapping[Node, Product],
        one_step: Mapping[Node, bool],
        bounds: Bounds,
    ) -> None:
        self.group = group
        self.one_step = one_step
        self.factors = np.ones(group.channels)
        self.producers = [products[node] for node in group.producers]
        self.consumers = [products[node] for node in group.consumers]
        seen = [measured[value.name] for value in group.outputs]
        self.top = np.max([channels.top for channels in seen], axis=0)
        self.power = np.max([channels.power for channels in seen], axis=0)
        flat = np.ones(group.channels)
        self.gain = np.sum([gains.get(value.name, flat) for value in group.outputs], axis=0)
        self.behind = [
            (product, gains.get(product.node.output.name, np.ones(len(product.rows()))))
            for product in self.consumers
        ]
        self.inputs = {product.node: measured[product.node.value(0).name] for product in self.producers}
        low = np.full(group.channels, 1 / bounds.limit)
        high = np.full(group.channels, bounds.limit)
        for _, limit in group.clips:
            room = limit * (1 - bounds.margin) / np.maximum(self.top, TINY)
            high = np.minimum(high, np.maximum(room, 1.0))
            reaches = self.top >= limit * REACHED
            low[reaches] = high[reaches] = 1.0
        self.low, self.high = low, high
        self.alive = self.top > 0
        self._before = self._noise()

    @property
    def moved(self) -> int:
        """How many channels have a factor."""
        return int((self.factors != 1).sum())

    @property
    def fall(self) -> float:
        """The expected noise around the group without factors, by that with them."""
        left = self._noise()
        return self._before / left if left > 0 else 1.0

    def _noise(self) -> float:
        front, back = self._errors()
        found = front / self.factors**2 + back * self.factors**2
        return float(found[self.alive & np.isfinite(found)].sum())

    def undo_in_gates(self, graph: Graph) -> None:
        """Make factors powers of two, whose inverses are exact in codes, and write these to the gates."""
        self._multiply(2.0 ** np.round(np.log2(self.factors)) / self.factors)
        for gate in self.group.gates:
            known = array_of(gate.operand(1))
            assert known is not None  # noqa: S101 - `is_gate` saw it
            made = known / self.factors.reshape(known.shape)
            write_constant(graph, gate, 1, made.astype(np.float32), f"{gate.name}_factors")

    def step(self) -> float:
        """Bring the factors to what is best for the present weights; how far they went, in octaves."""
        front, back = self._errors()
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = np.where(back > 0, (front / back) ** 0.25, np.inf)
        wanted = np.where(self.alive & np.isfinite(front), wanted, self.factors)
        least, most = self._room()
        made = np.clip(np.clip(wanted, np.minimum(least, most), most), self.low, self.high)
        made = np.where(self.alive, made, self.factors)  # of a dead channel nothing is known
        change = made / self.factors
        self._multiply(change)
        return float(np.abs(np.log2(change)).max(initial=0.0))

    def _multiply(self, change: Array) -> None:
        for product in self.producers:
            product.scale_rows(change)
        for product in self.consumers:
            product.scale_columns(change)
        self.factors = self.factors * change

    def _errors(self) -> tuple[Array, Array]:
        """The errors in front, times s^2, and behind, by s^2."""
        top = (self.top * self.factors).max(initial=0.0)
        front = np.full(self.group.channels, (top / CODES) ** 2)
        for product in self.producers:
            if self.one_step[product.node]:
                step = np.abs(product.weights).max(initial=0.0) / CODES
                power = (self.inputs[product.node].power * product.taken**2).mean() * product.rows().shape[1]
                front = front + step**2 * power
        back = np.zeros(self.group.channels)
        for product, gain in self.behind:
            rows = np.abs(product.rows()).max(axis=1, initial=0.0)
            if self.one_step[product.node]:
                rows = np.full(len(rows), rows.max(initial=0.0))
            elif product.depthwise:
                continue
            noise = product.by_group((rows / (product.given * CODES)) ** 2 * gain)
            back += noise * product.taps() * self.power
        return self.gain * front, back

    def _room(self) -> tuple[Array, Array]:
        """The factors with which no channel becomes the largest of its tensor."""
        with np.errstate(divide="ignore", invalid="ignore"):
            most = (self.top * self.factors)[self.alive].max(initial=0.0) / self.top
            least = np.zeros(self.group.channels)
            for product in self.producers:
                sizes = [np.abs(product.bias)] if product.bias is not None else []
                if self.one_step[product.node]:
                    sizes.append(np.abs(product.rows()).max(axis=1, initial=0.0))
                for size in sizes:
                    bound = size.max(initial=0.0) * self.factors / size
                    most = np.fmin(most, np.where(size > 0, bound, np.inf))
            for product in self.consumers:
                if self.one_step[product.node]:
                    size = product.columns()
                    bound = size * self.factors / size[self.alive].max(initial=TINY)
                    least = np.fmax(least, bound)
                elif not product.depthwise:
                    least = np.fmax(least, product.shares() * self.factors)
        return least, most


def has_row_scales(product: Product, ctx: PassContext) -> bool:
    """Whether every output channel gets a weight scale of its own."""
    if ctx.rule is None or ctx.target is None:
        return False
    if ctx.rule.weight_granularity == "per-channel":
        return ctx.target.operators[product.node.op].per_channel
    wanted = ctx.options is not None and bool(ctx.options.channel_wise_quantization)
    return ctx.rule.weight_granularity == "per-channel-depthwise" and wanted and product.depthwise


@attrs.frozen(eq=False)
class Channels:
    """What frames show of the channels of a tensor, float64 ``[C]``.

    Attributes:
        top: the largest magnitude.
        power: the mean square.
    """

    top: Array
    power: Array


def measure_channels(graph: Graph, frames: DataSource) -> dict[str, Channels]:
    """Every tensor that leaves a layer and has channels in axis 1, by name.

    Raises:
        DataError: when there are no frames.
    """
    values = [*graph.inputs, *(value for layer in layers(graph) for value in layer.outputs)]
    names = list(dict.fromkeys(value.name for value in values if channels_of(value) is not None))
    probe = graph.clone()
    outputs = [made for name in names for made in _reductions(probe, name)]
    session = Session(to_model(probe, quantized=False, outputs=outputs))
    tops: dict[str, Array] = {}
    sums: dict[str, Array] = {}
    seen = 0
    for _, results in in_flight(session, frames.frames(), lambda frame: frame.feeds):
        found = [array.astype(np.float64) for array in results.values()]
        for name, high, low, power in zip(names, found[::3], found[1::3], found[2::3], strict=True):
            top = np.maximum(high, -low)
            tops[name] = np.maximum(tops[name], top) if name in tops else top
            sums[name] = sums[name] + power if name in sums else power
        seen += 1
    return {name: Channels(top, sums[name] / seen) for name, top in tops.items()}


def _reductions(probe: Graph, name: str) -> tuple[str, str, str]:
    """Add nodes that give maximum, minimum and mean square of every channel, ``[C]``, and name these.

    Reductions inside a run are several times faster than those of what it returns.
    """
    value = probe.values[name]
    axes = [axis for axis in range(value.type.rank or 0) if axis != 1]
    over = probe.add_constant(probe.fresh_name("axes"), Constant.of(np.array(axes, np.int64)))

    def add(op: str, inputs: list[Value], keep: dict[str, int]) -> Value:
        known = TensorType(value.type.dtype, None)
        return probe.add_node(op, inputs, [(probe.fresh_name(f"{name}_{op}"), known)], keep).output

    square = add("Mul", [value, value], {})
    high, low = (add(op, [value, over], {"keepdims": 0}).name for op in ("ReduceMax", "ReduceMin"))
    return high, low, add("ReduceMean", [square, over], {"keepdims": 0}).name
