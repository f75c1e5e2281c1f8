"""Which layers a name means, and by which names the vendor's tools know them: those of the model file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from lowtide.ir import Graph, Layer, layers
from lowtide.precision.api import PrecisionPlan
from lowtide.precision.check import WIDE, has_parameters
from lowtide.precision.classes import PrecisionClass
from lowtide.target import layer_names

Hits = Mapping[str, frozenset[str]]


@attrs.frozen
class LayerNames:
    """The names of a network.

    Attributes:
        layers: by their own name.
        inputs: of the network.
        whole: the layers that a node or tensor of the model file became part of; their own names, too.
        parts: the same for parts of names that TFLite joins with semicolons when it fuses.
        constants: the layers that compute with a tensor of weights.
        filed: names of layers and inputs that stand in the model file.
    """

    layers: Mapping[str, Layer]
    inputs: tuple[str, ...]
    whole: Hits
    parts: Hits
    constants: Hits
    filed: frozenset[str]

    @classmethod
    def of(cls, graph: Graph) -> LayerNames:
        """Gather the names of a network."""
        found = {layer.name: layer for layer in layers(graph)}
        whole = layer_names(found.values())
        inputs = tuple(value.name for value in graph.inputs)
        ends = {value.name for value in graph.outputs}
        # Of a layer that comes from no file nothing tells that it has another name.
        filed = {
            layer.name
            for layer in found.values()
            if layer.name in ends.union(_tensors(layer)) or not _tensors(layer)
        }
        constants = (
            (value.name, layer.name)
            for layer in found.values()
            for node in layer.nodes
            for value in node.inputs
            if value is not None and value.is_constant and value.type.dtype.is_float
        )
        parts = (
            (part, layer)
            for name, hits in whole.items()
            for part in _split(name)
            for layer in hits
            if ";" in name
        )
        return cls(found, inputs, whole, _gathered(parts), _gathered(constants), frozenset((*inputs, *filed)))

    def meant(self, name: str, *, parameters: bool) -> tuple[str, ...]:
        """The layers that a name stands for; several where it says too little.

        Args:
            name: of a layer, of a node or tensor, or a part of such a name; the name of a layer comes first.
            parameters: whether layers are meant for their parameters: a layer without any is then meant only
                where no other comes of the same node, and tensors of weights are names, too.
        """
        found = self.whole.get(name) or self._of_parts(name)
        if parameters:
            candidates = found or self.weights(name)
            owners = frozenset(layer for layer in candidates if has_parameters(self.layers[layer]))
            found = (owners & {name}) or owners or found
        return (name,) if name in found else tuple(sorted(found))

    def weights(self, name: str) -> frozenset[str]:
        """The layers that compute with a tensor of weights of that name."""
        return self.constants.get(name, frozenset())

    def _of_parts(self, name: str) -> frozenset[str]:
        found = frozenset(self.layers)
        for part in _split(name):
            found &= self.parts.get(part, frozenset[str]())
        return found if _split(name) else frozenset()

    def of_class(self, group: PrecisionClass) -> tuple[str, ...]:
        """What to list for a class: all that stands in the model file, or else Lowtide's own names."""
        made = [
            name
            for name, layer in self.layers.items()
            if any(value.name in group.tensors for value in layer.outputs)
        ]
        every = (*(name for name in self.inputs if name in group.tensors), *made)
        return tuple(name for name in every if name in self.filed) or every

    def of_parameters(self, layer: Layer) -> str:
        """What to list for the parameters of a layer: a name in the model file, or else its own."""
        if layer.name in self.filed:
            return layer.name
        for name in reversed(_tensors(layer)):
            if self.meant(name, parameters=True) == (layer.name,):
                return name
        return layer.name


def listed(
    plan: PrecisionPlan, graph: Graph, classes: Iterable[PrecisionClass]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the two lists hold for a plan: names of outputs and of layers with parameters alone in 16 bits."""
    names = LayerNames.of(graph)
    wide = {
        name for group in classes if plan.activations[group.name] == WIDE for name in names.of_class(group)
    }
    outputs = tuple(name for name in (*names.inputs, *names.layers) if name in wide)
    alone = [
        names.of_parameters(layer)
        for layer in names.layers.values()
        if plan.weights.get(layer.name) == WIDE
        and has_parameters(layer)
        and all(plan.activations.get(value.name) != WIDE for value in layer.outputs)
    ]
    return outputs, tuple(alone)


def _tensors(layer: Layer) -> tuple[str, ...]:
    """The tensors of the model file that a layer computes."""
    return tuple(name for node in layer.nodes for name in node.location.tensors if name)


def _split(name: str) -> tuple[str, ...]:
    return tuple(part for part in (part.strip() for part in name.split(";")) if part)


def _gathered(pairs: Iterable[tuple[str, str]]) -> Hits:
    found: dict[str, set[str]] = {}
    for name, layer in pairs:
        found.setdefault(name, set()).add(layer)
    return {name: frozenset(hits) for name, hits in found.items()}
