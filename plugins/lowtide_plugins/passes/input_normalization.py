"""Mean and scale of the input normalization into the network."""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np

from lowtide.errors import PassError
from lowtide.ir import Constant, Graph, Location, Node, Value
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide_plugins.passes.affine import elementwise, fold_ahead
from lowtide_plugins.passes.rewrite import Tally


@attrs.frozen(kw_only=True)
class FoldInputNormalization(Pass):
    """Lets the network take raw pixels: x becomes (x - mean) * scale inside.

    Precondition: the float input has channels at axis 1 and has not been normalized by this pass before,
    which the locations of the nodes tell. Effect: a Sub and a Mul at the input, folded into the first layer
    as far as that is exact. Where the first layer pads with zeros, which stand for the mean of the pixels,
    the Sub stays as a layer of its own, with a refusal. Without mean and scale those of the options
    input_mean and input_scale are taken if input_optimization is on; otherwise nothing happens.

    Attributes:
        mean: numbers separated by commas, in the units of the pixels, one or one a channel; empty for 0.
        scale: likewise, the factor after the mean is taken off; empty for 1.
        input: name of the input; empty for the only one whose channels fit.
    """

    name: ClassVar[str] = "fold-input-normalization"
    mean: str = ""
    scale: str = ""
    input: str = ""

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`.

        Raises:
            PassError: when mean or scale are no numbers, or no input or several inputs fit them.
        """
        given = _numbers("mean", self.mean), _numbers("scale", self.scale)
        if not any(given) and ctx.options is not None and ctx.options.input_optimization:
            given = ctx.options.input_mean, ctx.options.input_scale
        mean, scale = given[0] or (0.0,), given[1] or (1.0,)
        if not any(mean) and all(entry == 1 for entry in scale):
            return PassOutcome(changed=False)
        source = self._source(graph, {len(mean), len(scale)} - {1})
        mark = f"{source.name}/normalization"
        if any(mark in node.location.nodes for node in graph) or not source.uses:
            return PassOutcome(changed=False)
        tally = Tally()
        for node in reversed(_insert(graph, source, mean, scale, mark)):
            affine = elementwise(node)
            reason = "its constant is not at hand." if affine is None else fold_ahead(graph, affine)
            if reason is not None:
                tally.refuse(node, f"{node.op} of the input normalization stays a layer: {reason}")
        tally.count("normalized")
        return tally.outcome()

    def _source(self, graph: Graph, counts: set[int]) -> Value:
        floats = [value for value in graph.inputs if value.type.dtype.is_float]
        named = [value for value in floats if value.name == self.input] if self.input else floats
        found = [value for value in named if _fits(value, counts)]
        if len(counts) < 2 and len(found) == 1:
            return found[0]
        known = ", ".join(f"{value.name} {value.type.shape}" for value in floats) or "none"
        wanted = " and ".join(str(count) for count in sorted(counts)) or "any number of"
        raise PassError(
            f"expected one float input with {wanted} channels at axis 1, found {len(found)} of: {known}",
            place=self.name,
            hint="give one number for each channel, and name the input with input=…",
        )


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        found = (float("nan"),)
    if not all(np.isfinite(entry) for entry in found):
        raise PassError(
            f"expected finite numbers separated by commas, found {text!r}",
            place=f"{FoldInputNormalization.name}{{{option}}}",
        )
    return found


def _fits(value: Value, counts: set[int]) -> bool:
    shape = value.type.shape
    return shape is not None and len(shape) >= 2 and all(shape[1] == count for count in counts)


def _insert(
    graph: Graph, source: Value, mean: tuple[float, ...], scale: tuple[float, ...], mark: str
) -> list[Node]:
    readers = source.uses
    # Nodes are listed in executable order, so the first reader is the earliest place.
    first = next(node for node in graph if source in node.inputs)
    location = Location(first.location.model, (mark,))
    made: list[Node] = []
    present = source
    steps = (("Sub", mean, 0.0, "mean"), ("Mul", scale, 1.0, "scale"))
    for op, numbers, neutral, what in steps:
        if all(entry == neutral for entry in numbers):
            continue
        tail = (1,) * ((source.type.rank or 2) - 2)
        data = np.array(numbers, source.type.dtype.numpy).reshape(-1, *tail)
        constant = graph.add_constant(graph.fresh_name(f"{source.name}_{what}"), Constant.of(data))
        result = (graph.fresh_name(f"{source.name}_{op.lower()}_{what}"), source.type.with_quant(None))
        made.append(graph.add_node(op, [present, constant], [result], location=location, before=first))
        present = made[-1].output
    for use in readers:
        graph.set_input(use.node, use.operand, present)
    return made
