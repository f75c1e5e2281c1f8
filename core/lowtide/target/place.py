"""Which layer runs on the accelerator, which on the host, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Literal, Protocol

import attrs

from lowtide.diagnostics import Diagnostics
from lowtide.errors import GraphError, OptionError, counted, nearest
from lowtide.ir import DType, Graph, Layer, layers
from lowtide.ir.schema import known_ops
from lowtide.target.constraints import check_node
from lowtide.target.meta import OPTION, DetectionHead, read_head
from lowtide.target.model import Target
from lowtide.target.partition import partition
from lowtide.target.tails import followers, post_processing

BORDER = frozenset({"DequantizeLinear", "QuantizeLinear"})
"""Operators that stay where a network takes or gives integers; elsewhere codes are types of values."""


class PlacementOptions(Protocol):
    """The options that decide on placement; named as the vendor names them."""

    @property
    def deny_list_layer_type(self) -> tuple[str, ...]:
        """Operators, or the vendor's layer types, that run on the host."""
        ...

    @property
    def deny_list_layer_name(self) -> tuple[str, ...]:
        """Layers, nodes or tensors of the model file that run on the host."""
        ...

    @property
    def allow_list_layer_name(self) -> tuple[str, ...]:
        """Layers, nodes or tensors that alone run on the accelerator; excludes the other two."""
        ...

    @property
    def max_num_subgraphs(self) -> int | None:
        """How many parts the accelerator may get; ``None`` for as many as the device takes."""
        ...

    @property
    def post_processing(self) -> str:
        """``host`` keeps the decoding of boxes in float; ``accelerator`` leaves it to the device."""
        ...

    @property
    def meta_layers_names_list(self) -> str:
        """The vendor's file of the detection head; empty for none."""
        ...

    @property
    def tensor_bits(self) -> int:
        """The width that constraints are checked for; 32 for a float network."""
        ...


CODES = (
    "operator codes of TFLite are not understood: write names of ONNX operators, as Conv, or of layer types, "
    "as TIDL_ConvolutionLayer; `lowtide inspect MODEL` shows the operators of a network"
)
KEEP = "--set post_processing=accelerator leaves it there"


@attrs.frozen
class Assignment:
    """Where one layer runs.

    Attributes:
        layer: its name.
        op: the operator that gives the layer its type.
        device: where it runs.
        reason: why it runs on the host; empty on the accelerator.
        hint: how to bring it to the accelerator; may be empty.
        chosen: whether it is on the host although the device could run it and no list of the user says so.
        subgraph: the number of its part, counted from 0 in executable order; ``None`` on the host.
    """

    layer: str
    op: str
    device: Literal["accelerator", "host"]
    reason: str = ""
    hint: str = ""
    chosen: bool = False
    subgraph: int | None = None


def _by_name(placement: Placement) -> Mapping[str, Assignment]:
    return {assignment.layer: assignment for assignment in placement.assignments}


@attrs.frozen
class Placement:
    """Where all layers run.

    Attributes:
        assignments: in executable order.
    """

    assignments: tuple[Assignment, ...]
    _by_name: Mapping[str, Assignment] = attrs.field(
        init=False, repr=False, eq=False, default=attrs.Factory(_by_name, takes_self=True)
    )

    def of(self, layer: str) -> Assignment:
        """The assignment of a layer.

        Raises:
            GraphError: when there is no such layer.
        """
        if layer not in self._by_name:
            raise GraphError("the layer has no place", place=layer, hint=nearest(layer, self._by_name))
        return self._by_name[layer]

    def on_accelerator(self, layer: str) -> bool:
        """Whether a layer runs on the accelerator.

        Raises:
            GraphError: when there is no such layer.
        """
        return self.of(layer).device == "accelerator"

    @property
    def subgraphs(self) -> tuple[tuple[str, ...], ...]:
        """The names of the layers of every part of the accelerator, in executable order."""
        found: dict[int, list[str]] = {}
        for assignment in self.assignments:
            if assignment.subgraph is not None:
                found.setdefault(assignment.subgraph, []).append(assignment.layer)
        return tuple(tuple(found[number]) for number in sorted(found))


def place(graph: Graph, target: Target, options: PlacementOptions, diagnostics: Diagnostics) -> Placement:
    """Divide a prepared graph between accelerator and host.

    A fused layer goes as a whole: it runs on the host when any of its nodes must. What one part of the
    accelerator holds is connected, and no path leaves it and comes back.

    Raises:
        OptionError: when a list names what does not exist, the lists exclude each other, or a number is out
            of range.
    """
    found = layers(graph)
    limit = subgraph_limit(target, options)
    refusals = _denied(found, target, options, diagnostics)
    decodes = decoding(found, options)
    # What a file of the detection head names, and what follows, the vendor's own post-processing replaces.
    ours = not options.meta_layers_names_list
    for layer in found:
        if layer.name in refusals:
            continue
        why = _refusal(layer, target, options.tensor_bits)
        if layer.name in decodes:
            how = f"post-processing, which 8 bits would spoil: {decodes[layer.name]}"
            why = _Refusal(how, KEEP, chosen=why is None and ours)
        if why is not None:
            refusals[layer.name] = why
    for name in followers(found, refusals):
        reason = "what it reads is made on the host, and nothing behind it has weights"
        refusals[name] = _Refusal(reason, chosen=ours)
    groups = _groups(found, refusals)
    kept = _keep_largest(groups, found, limit, refusals, diagnostics)
    numbers = {position: number for number, group in enumerate(kept) for position in group}
    return Placement(
        tuple(
            _assignment(layer, refusals.get(layer.name), numbers.get(position))
            for position, layer in enumerate(found)
        )
    )


def decoding(found: Sequence[Layer], options: PlacementOptions) -> dict[str, str]:
    """The layers that are kept on the host because they decode boxes, each with how that was seen.

    Raises:
        OptionError: when the file of the detection head cannot be read or names what the network has not.
    """
    head = detection_head(found, options)
    named = head.tensors if head else ()
    return post_processing(found, named) if options.post_processing == "host" else {}


def detection_head(found: Sequence[Layer], options: PlacementOptions) -> DetectionHead | None:
    """What the vendor's file says of the head, with the names of this network; ``None`` without a file.

    Raises:
        OptionError: when it cannot be read, or names a tensor that the network has not.
    """
    if not options.meta_layers_names_list:
        return None
    head = read_head(Path(options.meta_layers_names_list))
    outside = {value.name: value.name for layer in found for value in (*layer.inputs, *layer.outputs)}
    inside = {name: layer.name for layer in found for node in layer.nodes for name in node.location.tensors}
    known = {**inside, **outside}
    tensors: dict[str, str] = {}
    for name, kind in head.tensors.items():
        if name not in known:
            raise OptionError(
                f"{head.place}:{head.lines[name]}: the network has no tensor {name!r}",
                place=OPTION,
                hint=nearest(name, known),
            )
        tensors.setdefault(known[name], kind)
    return attrs.evolve(head, tensors=tensors)


@attrs.frozen
class _Refusal:
    reason: str
    hint: str = ""
    chosen: bool = False


def _assignment(layer: Layer, refusal: _Refusal | None, subgraph: int | None) -> Assignment:
    if refusal is None:
        return Assignment(layer.name, layer.op, "accelerator", subgraph=subgraph)
    return Assignment(layer.name, layer.op, "host", refusal.reason, refusal.hint, refusal.chosen)


def subgraph_limit(target: Target, options: PlacementOptions) -> int:
    """How many parts the accelerator gets at most.

    Raises:
        OptionError: when the options ask for more than the device takes.
    """
    wanted = options.max_num_subgraphs
    if wanted is None:
        return target.max_subgraphs
    if not 1 <= wanted <= target.max_subgraphs:
        raise OptionError(
            f"{target.name} takes 1 to {target.max_subgraphs} subgraphs, found {wanted}",
            place="max_num_subgraphs",
        )
    return wanted


def _refusal(layer: Layer, target: Target, bits: int) -> _Refusal | None:
    """Why the device cannot take a layer, ``None`` when it can."""
    rule = target.operators.get(layer.op)
    if layer.op in BORDER:
        return _Refusal(f"{layer.op}: converts numbers at an end of the network that takes or gives integers")
    reads = [value.type.dtype is DType.FLOAT32 for value in layer.inputs]
    writes = [value.type.dtype is DType.FLOAT32 for value in layer.outputs]
    computes = rule is not None and rule.kind == "float"
    if (reads and not any(reads)) or not (any(writes) or computes):
        wide = any(value.type.dtype is DType.FLOAT64 for value in (*layer.inputs, *layer.outputs))
        return _Refusal(f"{layer.op}: works on {'float64' if wide else 'integers that are not codes'}")
    for node in layer.nodes:
        if node.op not in target.operators:
            return _Refusal(f"{node.op}: not supported by the device")
        failed = check_node(target, node, bits, layer_size=len(layer.nodes))
        if failed:
            reasons = "; ".join(constraint.reason for constraint in failed)
            hints = "; ".join(constraint.hint for constraint in failed if constraint.hint)
            return _Refusal(f"{node.op}: {reasons}", hints)
    return None


# --- lists ---


def _denied(
    found: Iterable[Layer], target: Target, options: PlacementOptions, diagnostics: Diagnostics
) -> dict[str, _Refusal]:
    denied = options.deny_list_layer_type or options.deny_list_layer_name
    if options.allow_list_layer_name and denied:
        raise OptionError(
            "an allow list and a deny list exclude each other",
            place="allow_list:layer_name",
            hint="keep one of allow_list:layer_name, deny_list:layer_name and deny_list:layer_type",
        )
    named = layer_names(found)
    if options.allow_list_layer_name:
        allowed = _look_up(options.allow_list_layer_name, named, "allow_list:layer_name")
        return {
            layer.name: _Refusal("not in allow_list:layer_name")
            for layer in found
            if layer.name not in allowed
        }
    by_type = _denied_types(found, target, options.deny_list_layer_type, diagnostics)
    by_name = _look_up(options.deny_list_layer_name, named, "deny_list:layer_name")
    return by_type | {
        name: _Refusal(f"{given!r} is in deny_list:layer_name") for name, given in by_name.items()
    }


def layer_names(found: Iterable[Layer]) -> Mapping[str, frozenset[str]]:
    """For every name that a user may know: the layers that it stands for."""
    names: dict[str, set[str]] = {}
    for layer in found:
        for node in layer.nodes:
            known = (node.name, *node.location.nodes, *node.location.tensors, *(v.name for v in node.outputs))
            for name in (layer.name, *known):
                if name:
                    names.setdefault(name, set()).add(layer.name)
    return {name: frozenset(layers_) for name, layers_ in names.items()}


def _look_up(given: Iterable[str], named: Mapping[str, frozenset[str]], option: str) -> dict[str, str]:
    """The layers that a list names, each with the name that was given."""
    result: dict[str, str] = {}
    for name in given:
        if name not in named:
            raise OptionError(
                f"the network has no layer, node or tensor {name!r}", place=option, hint=nearest(name, named)
            )
        result.update(dict.fromkeys(sorted(named[name]), name))
    return result


def _denied_types(
    found: Iterable[Layer], target: Target, given: Iterable[str], diagnostics: Diagnostics
) -> dict[str, _Refusal]:
    vendor = {rule.layer_type for rule in target.operators.values()} - {""}
    result: dict[str, _Refusal] = {}
    for name in given:
        if name not in vendor and name not in known_ops():
            raise OptionError(
                f"there is no operator or layer type {name!r}",
                place="deny_list:layer_type",
                hint=CODES if name.isdigit() else nearest(name, vendor | known_ops()),
            )
        hit = [layer.name for layer in found if name in _types(layer, target)]
        result.update(dict.fromkeys(hit, _Refusal(f"{name} is in deny_list:layer_type")))
        if not hit:
            diagnostics.info(
                "LT552", "deny_list:layer_type", f"the network has no {name}, so denying it does nothing"
            )
    return result


def _types(layer: Layer, target: Target) -> frozenset[str]:
    """The operators of a layer, and the vendor's name of the layer, which its first node gives."""
    rule = target.operators.get(layer.op)
    return frozenset(node.op for node in layer.nodes) | ({rule.layer_type} if rule else set[str]())


# --- subgraphs ---


def _groups(found: tuple[Layer, ...], refusals: Mapping[str, _Refusal]) -> tuple[tuple[int, ...], ...]:
    makers = {value: position for position, layer in enumerate(found) for value in layer.outputs}
    reads = [[makers[value] for value in layer.inputs if value in makers] for layer in found]
    try:
        order = tuple(TopologicalSorter(dict(enumerate(reads))).static_order())
    except CycleError as error:
        circle: list[int] = error.args[1]
        raise GraphError("the fused layer depends on its own result", place=found[circle[0]].place) from error
    rank = {position: number for number, position in enumerate(order)}
    edges = [[rank[source] for source in reads[position]] for position in order]
    groups = partition(edges, [found[position].name not in refusals for position in order])
    return tuple(sorted(tuple(sorted(order[number] for number in group)) for group in groups))


def _keep_largest(
    groups: tuple[tuple[int, ...], ...],
    found: tuple[Layer, ...],
    limit: int,
    refusals: dict[str, _Refusal],
    diagnostics: Diagnostics,
) -> list[tuple[int, ...]]:
    """The groups that the device takes, in order; the layers of the others are refused."""
    nodes = {group: sum(len(found[position].nodes) for position in group) for group in groups}
    ranked = sorted(groups, key=lambda group: (-nodes[group], group[0]))
    for group in sorted(ranked[limit:], key=lambda group: group[0]):
        reason = f"the network falls into {len(groups)} parts and the accelerator takes {limit}"
        for position in group:
            refusals[found[position].name] = _Refusal(reason, chosen=True)
        first = found[group[0]]
        diagnostics.warning(
            "LT551",
            first.place,
            f"{reason}: from here to {found[group[-1]].name}, {counted(nodes[group], 'node')} on the host",
            "see why the layers between the parts run on the host, or deny those parts on purpose",
        )
    return [group for group in groups if group in ranked[:limit]]
