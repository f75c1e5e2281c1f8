"""Networks of mixed widths put together from one with 8 and one with 16 bits, whole or in part.

A search asks for many networks that differ in one width. Solving each anew, and running it from the start,
costs more than it tells: here a variant takes types and constants of two solved networks, and only what lies
behind the change runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import attrs
import numpy as np

from lowtide.compiler.run import Device
from lowtide.errors import PassError
from lowtide.ir import Array, Constant, Graph, Layer, TensorType, Value, layers
from lowtide.latency import work_shares
from lowtide.precision import WIDE, PrecisionPlan, PrecisionProblem, has_parameters
from lowtide.runtime import Session, to_model

NARROW = 8
TIE = 2.0**-9
"""What is added to a number before it is rounded, in units of its codes, so that ties go up."""


@attrs.frozen
class Twin:
    """A layer in both networks."""

    narrow: Layer
    wide: Layer


class Mixture:
    """Two solutions of one network.

    Args:
        narrow: with 8 bits.
        wide: with 16 bits wherever the device has them.
        device: how it rounds.

    Raises:
        PassError: when they do not have the same layers.
    """

    def __init__(self, narrow: Graph, wide: Graph, device: Device) -> None:
        self.narrow = narrow
        self.wide = wide
        self.ties_up = device.profile.convolution == "shift"
        self._on_host = device.on_host
        pairs = list(zip(layers(narrow), layers(wide), strict=False))
        if len(layers(narrow)) != len(layers(wide)) or any(a.name != b.name for a, b in pairs):
            raise PassError(
                "passes on the quantized weights changed the layers, which a search for widths cannot follow",
                place="weights",
                hint="leave these passes out, or give the 16-bit layers by name",
            )
        self.layers: Mapping[str, Twin] = {a.name: Twin(a, b) for a, b in pairs}
        self._sources = {value.name for value in narrow.inputs}
        self._readers: dict[str, list[str]] = {}
        self._maker: dict[str, str] = {}
        for name, twin in self.layers.items():
            for value in twin.narrow.inputs:
                self._readers.setdefault(value.name, []).append(name)
            for value in twin.narrow.outputs:
                self._maker[value.name] = name

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs of the network."""
        return tuple(value.name for value in self.narrow.outputs)

    def behind(self, tensors: Iterable[str], weights: Iterable[str]) -> tuple[str, ...]:
        """The layers whose results change with the widths of some tensors and of the parameters of layers."""
        changed = set(weights)
        for tensor in tensors:
            maker = self._maker.get(tensor)
            changed |= {maker} if maker is not None else set(self._readers.get(tensor, ()))
        for name, twin in self.layers.items():
            if name not in changed:
                makers = {self._maker.get(value.name) for value in twin.narrow.inputs}
                changed |= {name} if makers & changed else set()
        return tuple(name for name in self.layers if name in changed)

    def read_by(self, chosen: Collection[str]) -> tuple[str, ...]:
        """Names of the tensors that some layers read and do not make."""
        made = {value.name for name in chosen for value in self.layers[name].narrow.outputs}
        read = [value.name for name in chosen for value in self.layers[name].narrow.inputs]
        return tuple(name for name in dict.fromkeys(read) if name not in made)

    def graph(self, plan: PrecisionPlan, chosen: Sequence[str] | None = None) -> Graph:
        """The network under a plan; or some of its layers, with what they read as inputs.

        Inputs of the network have codes, all others take the real numbers that codes stand for.
        """
        made = Graph("mixture")
        names = tuple(self.layers) if chosen is None else tuple(chosen)
        values: dict[str, Value] = {}
        read = [value.name for value in self.narrow.inputs] if chosen is None else self.read_by(names)
        for name in read:
            kind = self._type(name, plan)
            values[name] = made.add_input(name, kind if name in self._sources else _bare(kind))
        constants: dict[tuple[int, str], Value] = {}
        for name in names:
            self._add(made, name, plan, values, constants)
        made.set_outputs([values[name] for name in self.outputs if name in values])
        return made

    def _add(
        self,
        made: Graph,
        name: str,
        plan: PrecisionPlan,
        values: dict[str, Value],
        constants: dict[tuple[int, str], Value],
    ) -> None:
        wide = plan.weights.get(name) == WIDE
        layer = self.layers[name].wide if wide else self.layers[name].narrow
        leaving = {value.name for value in layer.outputs}
        for node in layer.nodes:
            operands: list[Value | None] = []
            for value in node.inputs:
                if value is None or value.constant is None:
                    operands.append(None if value is None else values[value.name])
                    continue
                key = (wide, value.name)
                if key not in constants:
                    text = f"{'wide' if wide else 'narrow'}/{value.name}"
                    constants[key] = made.add_constant(text, value.constant, value.type)
                operands.append(constants[key])
            kinds = [
                self._type(value.name, plan) if value.name in leaving else value.type
                for value in node.outputs
            ]
            lifted = self.ties_up and name not in self._on_host and node.op != "QuantizeLinear"
            results = [
                (
                    f"{value.name}/tied" if lifted and kind.quant else value.name,
                    _bare(kind) if lifted else kind,
                )
                for value, kind in zip(node.outputs, kinds, strict=True)
            ]
            new = made.add_node(node.op, operands, results, node.attributes)
            for value, kind, result in zip(node.outputs, kinds, new.outputs, strict=True):
                values[value.name] = (
                    self._lift(made, result, value.name, kind) if lifted and kind.quant else result
                )

    def _lift(self, made: Graph, raw: Value, name: str, kind: TensorType) -> Value:
        """Round ties up, where QuantizeLinear rounds them to even: powers of two as scales make many."""
        assert kind.quant is not None  # noqa: S101 - the caller checks
        nudge = Constant.of(np.array(kind.quant.scale[0] * TIE, np.float32))
        constant = made.add_constant(f"{name}/nudge", nudge)
        return made.add_node("Add", [raw, constant], [(name, kind)]).output

    def _type(self, name: str, plan: PrecisionPlan) -> TensorType:
        source = self.wide if plan.activations.get(name) == WIDE else self.narrow
        return source.values[name].type


@attrs.frozen
class Item:
    """One width that can be chosen.

    Attributes:
        kind: of a class of tensors, or of the parameters of a layer.
        name: that of the class or layer.
        tensors: those of the class; none for parameters.
        behind: the layers that run when it changes.
        share: their part of the work of the network.
    """

    kind: Literal["activations", "weights"]
    name: str
    tensors: tuple[str, ...]
    behind: tuple[str, ...]
    share: float

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def is_wide(self, plan: PrecisionPlan) -> bool:
        """Whether it has 16 bits under a plan."""
        bits = plan.activations[self.tensors[0]] if self.tensors else plan.weights[self.name]
        return bits == WIDE

    def flipped(self, plan: PrecisionPlan) -> PrecisionPlan:
        """The plan with its other width."""
        bits = NARROW if self.is_wide(plan) else WIDE
        if self.tensors:
            return PrecisionPlan({**plan.activations, **dict.fromkeys(self.tensors, bits)}, plan.weights)
        return PrecisionPlan(plan.activations, {**plan.weights, self.name: bits})


def items_of(
    mixture: Mixture, problem: PrecisionProblem, narrow: PrecisionPlan, wide: PrecisionPlan
) -> tuple[Item, ...]:
    """The widths that differ between two plans."""
    shares = work_shares(problem.graph, problem.target, problem.placement)

    def item(kind: Literal["activations", "weights"], name: str, tensors: tuple[str, ...]) -> Item:
        behind = mixture.behind(tensors, () if tensors else (name,))
        return Item(kind, name, tensors, behind, sum(shares.get(one, 0.0) for one in behind))

    differing = [
        group for group in problem.classes if narrow.activations[group.name] != wide.activations[group.name]
    ]
    parameters = [
        name
        for name, twin in mixture.layers.items()
        if narrow.weights.get(name) != wide.weights.get(name) and has_parameters(twin.narrow)
    ]
    return (
        *(item("activations", group.name, group.tensors) for group in differing),
        *(item("weights", name, ()) for name in parameters),
    )


class Run:
    """A mixture under a plan, run on some frames, with what every layer gave.

    Attributes:
        values: for each frame the real numbers of all tensors that layers read, and the outputs.
    """

    def __init__(self, mixture: Mixture, plan: PrecisionPlan, frames: Sequence[Mapping[str, Array]]) -> None:
        self.mixture = mixture
        self.plan = plan
        graph = mixture.graph(plan)
        fed = {value.name for value in graph.inputs}
        read = (value.name for twin in mixture.layers.values() for value in twin.narrow.inputs)
        wanted = [name for name in dict.fromkeys((*read, *mixture.outputs)) if name not in fed]
        session = Session(to_model(graph, quantized=True, outputs=wanted))
        self.values: list[Mapping[str, Array]] = [{**feeds, **session.run(feeds)} for feeds in frames]

    def varied(self, plan: PrecisionPlan, chosen: Sequence[str]) -> list[dict[str, Array]]:
        """The outputs under another plan whose difference `chosen` layers lie behind, for each frame."""
        before = [{name: found[name] for name in self.mixture.outputs} for found in self.values]
        graph = self.mixture.graph(plan, chosen)
        names = [value.name for value in graph.outputs]
        if not names:
            return before
        session = Session(to_model(graph, quantized=True))
        fed = [value.name for value in graph.inputs]
        for found, outputs in zip(self.values, before, strict=True):
            results = session.run({name: found[name] for name in fed})
            outputs.update(zip(names, results.values(), strict=True))
        return before


def _bare(kind: TensorType) -> TensorType:
    return TensorType(kind.dtype, kind.shape)
