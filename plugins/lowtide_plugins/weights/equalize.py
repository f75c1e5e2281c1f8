"""Cross-layer equalization with measured activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs
import numpy as np

from lowtide.data import DataSource
from lowtide.errors import PassError
from lowtide.ir import Array, Constant, Graph, Node, TensorType, Value, layers
from lowtide.passes import Pass, PassContext, PassOutcome, Refusal
from lowtide.runtime import Session, in_flight, to_model
from lowtide_plugins.weights.channels import ChannelGroup, Product, channel_groups, channels_of
from lowtide_plugins.weights.importance import output_gains

REACHED = 1 - 1e-6
"""A channel whose largest element is this share of a limit, or more, reaches it."""

SETTLED = 0.01
"""Octaves by which no factor changes any more when they are good enough."""

CODES = 128
"""A step of 8-bit weights and activations is about the largest magnitude by this."""

FINE_ALREADY = (
    "all weights that make and read it have a scale for each channel, so equal channels gain nothing."
)

TINY = 1e-12
"""Smaller sizes count as this."""


@attrs.frozen(kw_only=True)
class Equalize(Pass):
    """Scale channels between layers so that the errors of rounding matter least.

    Where a product gives y and the next reads it, row c of the first is multiplied by s_c and column c of
    the second divided by it, which changes nothing in float. With one step for a tensor, the errors are, in
    units of the unscaled channel, (d_w^2 X + d_a^2) / s^2 in front, with the steps d_w of the first weights
    and d_a of y and the power X of what these weights multiply, and d_v^2 s^2 in the second weights.
    Weighed by what an error of y and of the second product does to the outputs (`output_gains`) and by the
    power of y, the sum is least at

        s_c^4 = G_c (d_w^2 X + d_a^2) / (d_v^2 E[y_c^2] T_c)

    with G_c the gain of y_c and T_c the sum of the gains of all outputs and taps that read it. No channel is
    scaled so far that it, its weights or its bias become the largest of their tensor, or of their row where
    rows have scales. Weights with a scale for each channel have no such step, and tensors are refused around
    which all weights have: there rounding of the second weights can only get worse, and by hand it cost up
    to 2 dB. A channel that is 0 in all frames keeps its scale.

    A channel that reaches the limit of a Clip keeps s = 1; one that does not is scaled until it would, at
    most. Relu, pools, means and sums of equal shapes carry factors on, so all tensors of a residual chain
    have the same. What lies further beyond the frames than `margin` may be clipped otherwise than before.

    Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019,
    section 4.1, for the scaling; the factors follow from the noise of uniform rounding, step^2 / 12.

    Attributes:
        iterations: how often all groups are gone through, at most.
        limit: the largest factor and the inverse of the smallest.
        margin: room that is left below a Clip, as a share of its limit.
        frames: how many frames powers and maxima are measured on.
    """

    name: ClassVar[str] = "equalize"
    iterations: int = 20
    limit: float = 256.0
    margin: float = 0.25
    frames: int = 64

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`.

        Raises:
            PassError: when no data was given, or an option is out of range.
        """
        if ctx.frames is None:
            raise PassError("needs calibration frames", place=self.name)
        if self.limit < 1 or not 0 <= self.margin < 1 or self.iterations < 1 or self.frames < 1:
            raise PassError(
                "expected limit, iterations and frames of at least 1 and margin from 0 to below 1; found "
                f"{self.limit}, {self.iterations}, {self.frames} and {self.margin}",
                place=self.name,
            )
        every = channel_groups(graph)
        nodes = dict.fromkeys(node for g in every for node in (*g.producers, *g.consumers))
        products = {node: Product(node) for node in nodes}
        steps = {node: not _has_row_scales(products[node], ctx) for node in nodes}
        groups = [group for group in every if any(steps[n] for n in (*group.producers, *group.consumers))]
        refusals = [Refusal(group.values[0].name, FINE_ALREADY) for group in every if group not in groups]
        if not groups:
            return PassOutcome(False, {}, tuple(refusals))
        measured = measure_channels(graph, ctx.frames.select(self.frames))
        gains = output_gains(graph)
        scalings = [
            Scaling(group, measured, gains, products, steps, self)
            for group in groups
            if all(value.name in measured for value in group.outputs)
        ]
        for _ in range(self.iterations):
            if max((scaling.step() for scaling in scalings), default=0.0) < SETTLED:
                break
        scaled = sum(scaling.moved for scaling in scalings)
        touched = [scaling.group for scaling in scalings if scaling.moved]
        for node in dict.fromkeys(node for g in touched for node in (*g.producers, *g.consumers)):
            products[node].write(graph)
        return PassOutcome(scaled > 0, {"channels": scaled} if scaled else {}, tuple(refusals))


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
        options: Equalize,
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
        low = np.full(group.channels, 1 / options.limit)
        high = np.full(group.channels, options.limit)
        for _, limit in group.clips:
            room = limit * (1 - options.margin) / np.maximum(self.top, TINY)
            high = np.minimum(high, np.maximum(room, 1.0))
            reaches = self.top >= limit * REACHED
            low[reaches] = high[reaches] = 1.0
        self.low, self.high = low, high
        self.alive = self.top > 0

    @property
    def moved(self) -> int:
        """How many channels have a factor."""
        return int((self.factors != 1).sum())

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
        for product in self.producers:
            product.scale_rows(change)
        for product in self.consumers:
            product.scale_columns(change)
        self.factors = made
        return float(np.abs(np.log2(change)).max(initial=0.0))

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


def _has_row_scales(product: Product, ctx: PassContext) -> bool:
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
