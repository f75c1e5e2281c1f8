"""Equalization through SiLU: its gate gets the channels as they were."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

import attrs
import numpy as np

from lowtide.errors import PassError
from lowtide.ir import Constant, Graph, Node, Value
from lowtide.passes import Pass, PassContext, PassOutcome, Refusal
from lowtide_plugins.passes.checks import at_least
from lowtide_plugins.passes.patterns import silu
from lowtide_plugins.weights.channels import channel_groups, channels_of, is_product
from lowtide_plugins.weights.scaling import (
    Bounds,
    Channels,
    Scaling,
    has_row_scales,
    measure_channels,
    products_of,
    scalings_of,
    settle,
    write,
)


@attrs.frozen(kw_only=True)
class EqualizeGates(Pass):
    """Scale channels through x * sigmoid(x), which does not let factors through by itself.

    With u = s_c x made by the product in front, s_c x sigmoid(x) = u * sigmoid(u / s_c): a multiplication by
    1 / s_c goes between u and the Sigmoid, and what reads the result is divided by s_c. Nothing changes in
    float. In codes, channels of very different size share one step no longer; what the Sigmoid reads still
    does, but it is flat beyond a few units, so that its range can be narrow (`choose-ranges` finds that).
    Factors are those of `equalize`, rounded to powers of two, whose inverses are exact in codes.

    It costs two layers more for each gate that is split: SiLU is one layer of the device, and becomes a
    multiplication, a Sigmoid and another multiplication. So only gates are split where the expected noise of
    the tensors around them falls by `gain`; with weights that have a scale for each channel, too, since
    activations have none.

    Attributes:
        gain: by how much the expected noise has to fall, in dB.
        iterations: as in `equalize`.
        limit: the largest factor and the inverse of the smallest.
        frames: how many frames powers and maxima are measured on.
    """

    name: ClassVar[str] = "equalize-gates"
    gain: float = 12.0
    iterations: int = 20
    limit: float = 256.0
    frames: int = 64

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`.

        Raises:
            PassError: when no data was given, or an option is out of range.
        """
        if ctx.frames is None:
            raise PassError("needs calibration frames", place=self.name)
        at_least(self, gain=0, iterations=1, limit=1, frames=1)
        gates = [gate for gate in gates_of(graph) if _is_on_accelerator(gate, ctx)]
        if not gates:
            return PassOutcome(False)
        measured = measure_channels(graph, ctx.frames.select(self.frames))
        chosen = self._worthwhile(graph, {gate.source.name for gate in gates}, measured, ctx)
        refusals = tuple(
            Refusal(gate.source.name, f"its noise would fall by less than {self.gain:g} dB.")
            for gate in gates
            if gate.source.name not in chosen
        )
        if not chosen:
            return PassOutcome(False, {}, refusals)
        scalings = self._scalings(graph, chosen, measured, ctx)
        channels = write(graph, scalings)
        return PassOutcome(True, {"gates": len(chosen), "channels": channels}, refusals)

    def _worthwhile(
        self, graph: Graph, names: Collection[str], measured: Mapping[str, Channels], ctx: PassContext
    ) -> set[str]:
        """Those of the gates whose noise falls by enough when all of them are split."""
        scalings = self._scalings(graph.clone(), names, measured, ctx)
        return {
            gate.value(0).name
            for scaling in scalings
            for gate in scaling.group.gates
            if scaling.fall >= 10 ** (self.gain / 10)
        }

    def _scalings(
        self, graph: Graph, names: Collection[str], measured: Mapping[str, Channels], ctx: PassContext
    ) -> list[Scaling]:
        """Split gates and find the factors around them, which are not written yet."""
        for gate in gates_of(graph):
            if gate.source.name in names:
                split(graph, gate)
        groups = [group for group in channel_groups(graph) if group.gates]
        products = products_of(groups)
        steps = {node: not has_row_scales(product, ctx) for node, product in products.items()}
        bounds = Bounds(iterations=self.iterations, limit=self.limit)
        scalings = scalings_of(graph, groups, products, measured, steps, bounds)
        settle(scalings, bounds)
        return scalings


@attrs.frozen(eq=False)
class Gate:
    """A SiLU behind a product that nothing else reads.

    Attributes:
        source: x.
        sigmoid: reads x.
        product: x times what `sigmoid` gives.
    """

    source: Value
    sigmoid: Node
    product: Node


def gates_of(graph: Graph) -> tuple[Gate, ...]:
    """All of them, in the order of the graph."""
    found: list[Gate] = []
    for node in graph:
        nodes = silu(graph, node)
        if nodes is None:
            continue
        sigmoid, product = nodes
        source = sigmoid.value(0)
        made_by = source.producer
        inside = len(source.uses) == 2 and not graph.is_output(source)
        if inside and made_by is not None and is_product(made_by) and channels_of(source) is not None:
            found.append(Gate(source, sigmoid, product))
    return tuple(found)


def split(graph: Graph, gate: Gate) -> None:
    """Put a multiplication by ones, ``[1, C, 1, ...]``, before the Sigmoid; every node is a layer then."""
    channels, rank = channels_of(gate.source), gate.source.type.rank
    assert channels is not None  # noqa: S101 - `gates_of` asked
    assert rank is not None  # noqa: S101 - what has channels has a rank
    ones = np.ones((1, channels, *(1,) * (rank - 2)), np.float32)
    name = graph.fresh_name(f"{gate.source.name}_gate")
    factors = graph.add_constant(graph.fresh_name(f"{name}_factors"), Constant.of(ones))
    made = graph.add_node(
        "Mul", [gate.source, factors], [(name, gate.source.type)], location=gate.sigmoid.location
    )
    graph.set_input(gate.sigmoid, 0, made.output)
    for node in (made, gate.sigmoid, gate.product):
        node.layer = ""
    graph.sort()


def _is_on_accelerator(gate: Gate, ctx: PassContext) -> bool:
    layer = gate.product.layer or gate.product.output.name
    return ctx.placement is None or ctx.placement.on_accelerator(layer)
