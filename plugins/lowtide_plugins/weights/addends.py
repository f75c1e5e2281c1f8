"""Products that are added to something, and can make up for what that has lost."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from lowtide.compiler.run import Device
from lowtide.exact import Profile
from lowtide.exact.codes import aligned_factors
from lowtide.ir import Graph, Layer, QuantParams, Value, layers


@attrs.frozen(eq=False)
class Addend:
    """Where a product goes that is added to what is known before it.

    Attributes:
        layer: the layer that adds.
        other: what the product is added to.
        bias: what rounding the sum adds on average.
    """

    layer: Layer
    other: Value
    bias: float

    @property
    def sum(self) -> Value:
        """What both add up to, before an activation."""
        return self.layer.nodes[0].output


def addends_of(graph: Graph, products: Collection[str], device: Device) -> dict[str, Addend]:
    """Those products that nothing but an Add reads, where its other operand is there before, by name."""
    found: dict[str, Addend] = {}
    known = {value.name for value in graph.inputs}
    adding = {layer.nodes[0]: layer for layer in layers(graph) if layer.op == "Add"}
    for layer in layers(graph):
        made = layer.nodes[0].output
        adder = adding.get(made.users[0]) if len(made.users) == 1 else None
        if adder is not None and made.name in products and made not in graph.outputs:
            node = adder.nodes[0]
            other = node.value(1 if node.value(0) is made else 0)
            shapes = {value.type.shape for value in (made, other, node.output)}
            if len(shapes) == 1 and other.name in known:
                match [value.type.quant for value in (made, other, adder.output)]:
                    case [QuantParams() as one, QuantParams() as two, QuantParams() as total]:
                        bias = tie_bias(one, two, total, device.profile)
                    case _:  # a sum of real numbers
                        bias = 0.0
                found[made.name] = Addend(adder, other, bias)
        known.update(value.name for value in layer.outputs)
    return found


def tie_bias(first: QuantParams, second: QuantParams, made: QuantParams, profile: Profile) -> float:
    """What a sum gains on average since ties are rounded up: half of the last bit that is shifted out.

    Nothing is expected where the device rounds sums in another way, whose ties are rare or go both ways.
    """
    if profile.addition != "multiplier":
        return 0.0
    _, shift = aligned_factors(first, second, made, profile)
    return made.scale[0] * 2.0 ** -(shift + 1) if shift > 0 else 0.0
