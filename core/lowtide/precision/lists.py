"""Lists of layers by name, as the vendor's 16-bit lists, held against a network and a device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import attrs

from lowtide.errors import OptionError, nearest
from lowtide.ir import Layer
from lowtide.precision.api import PrecisionProblem
from lowtide.precision.check import classes_of_tensors, has_parameters, refused_layers
from lowtide.precision.classes import PrecisionClass
from lowtide.precision.names import LayerNames

OUTPUTS = "advanced_options:output_feature_16bit_names_list"
PARAMETERS = "advanced_options:params_16bit_names_list"


@attrs.frozen
class ListProblem:
    """A name in a list that cannot be meant, or is not the one that the vendor's tools know.

    Attributes:
        option: the list.
        stops: whether a compile is refused; otherwise the name is understood here.
    """

    option: str
    name: str
    message: str
    hint: str
    stops: bool = True

    def error(self) -> OptionError:
        """The refusal."""
        return OptionError(self.message, place=self.option, hint=self.hint)


@attrs.frozen
class Lists:
    """What the two lists of a problem mean.

    Attributes:
        outputs: layers with a 16-bit output and inputs of the network, each with the name that was given.
        parameters: layers with 16-bit parameters, the same.
        problems: what is wrong with them, in the order of the lists.
    """

    outputs: Mapping[str, str]
    parameters: Mapping[str, str]
    problems: tuple[ListProblem, ...]


def read_lists(problem: PrecisionProblem) -> Lists:
    """Look up every name of the two lists; nothing is raised."""
    reader = _Reader(problem)
    options = problem.options
    outputs = reader.read(OUTPUTS, options.output_feature_16bit_names_list)
    parameters = reader.read(PARAMETERS, options.params_16bit_names_list)
    return Lists(outputs, parameters, tuple(reader.problems))


class _Reader:
    def __init__(self, problem: PrecisionProblem) -> None:
        self.problem = problem
        self.problems: list[ListProblem] = []
        self.names = LayerNames.of(problem.graph)
        self.layers = self.names.layers
        self.of_tensor = classes_of_tensors(problem)
        self.refused = refused_layers(problem)

    def read(self, option: str, given: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, count in Counter(self.separated(given)).items():
            if count > 1:
                others = self.legal(option) - set(given)
                hint = f"is one of them meant to be another layer? {nearest(name, others)}"
                self.note(option, name, f"{name!r} is given {count} times", hint)
            layer = self.layer(option, name)
            if layer is None:
                continue
            known = self.known(option, layer)
            if layer in found:
                others = self.legal(option) - set(given)
                message = f"{name!r} and {found[layer]!r} are one layer"
                hint = (
                    f"write {known} once; is one of them meant to be another layer? {nearest(name, others)}"
                )
                self.note(option, name, message, hint)
            elif name != known:
                message = f"the vendor's tools know {name!r} as {known}"
                self.note(option, name, message, f"write {known}", stops=False)
            found.setdefault(layer, name)
        return found

    def known(self, option: str, name: str) -> str:
        """The name of a layer or input in the model file, by its name here."""
        if name in self.names.filed:
            return name
        if option == PARAMETERS:
            return self.names.of_parameters(self.layers[name])
        return next(iter(known for group in self.classes(name) for known in self.names.of_class(group)), name)

    def separated(self, given: Sequence[str]) -> list[str]:
        """Names at semicolons, where that makes known names of an unknown one: those of TFLite hold some."""
        made: list[str] = []
        for name in given:
            parts = [part.strip() for part in name.split(";") if part.strip()]
            whole = self.names.meant(name, parameters=True) or not all(
                self.names.meant(part, parameters=True) for part in parts
            )
            made += [name] if whole else parts
        return made

    def layer(self, option: str, name: str) -> str | None:
        """The layer or input that a name means, ``None`` where it may not have 16 bits."""
        if option == OUTPUTS and name in self.names.inputs and name in self.of_tensor:
            return name
        hits = self.names.meant(name, parameters=option == PARAMETERS)
        wrong = self.wrong(option, name, hits)
        if wrong is None:
            return hits[0]
        self.note(option, name, *wrong)
        return None

    def wrong(self, option: str, name: str, hits: Sequence[str]) -> tuple[str, str] | None:
        """Why a name cannot be meant, and what to do."""
        owners = sorted(self.names.weights(name))
        if not hits and owners:
            shown = ", ".join(self.known(option, owner) for owner in owners[:3])
            return f"{name!r} holds weights, and this list is of outputs", f"write {shown}"
        if not hits:
            message = f"the network has no layer, node or tensor {name!r}"
            return message, nearest(name, self.legal(option))
        if len(hits) > 1:
            shown = ", ".join(self.known(option, hit) for hit in hits[:3])
            return f"{name!r} is part of {len(hits)} layers", f"name one: {shown}"
        assignment = self.problem.placement.of(hits[0])
        # What a host layer gives has codes where the accelerator reads it.
        if assignment.device == "host" and not (option == OUTPUTS and self.classes(hits[0])):
            message = f"{name!r} runs on the host, in float: {assignment.reason}"
            return message, f"leave it out; {nearest(name, self.legal(option))}"
        if option == PARAMETERS and not has_parameters(self.layers[hits[0]]):
            return f"{name!r} has no parameters", f"leave it out; {nearest(name, self.legal(option))}"
        if option == OUTPUTS and not self.classes(hits[0]):
            device = self.problem.target.name
            message = f"{name!r} gives float numbers on {device}: a wider output has no effect"
            return message, "leave it out, or name the layer before it"
        refused = next(self.refusals(option, hits[0]), None)
        if refused is None:
            return None
        layer, reason, hint = refused
        tied = "" if layer == hits[0] else f", because {name!r} is around it"
        message = f"{layer} would have 16 bits on {self.problem.target.name}{tied}: {reason}"
        other = nearest(name, self.legal(option))
        return message, f"{hint}; {other}" if hint else other

    def note(self, option: str, name: str, message: str, hint: str, *, stops: bool = True) -> None:
        self.problems.append(ListProblem(option, name, message, hint, stops))

    def classes(self, layer: str) -> tuple[PrecisionClass, ...]:
        """The classes of the tensors that leave a layer."""
        made = [self.of_tensor[v.name] for v in self.layers[layer].outputs if v.name in self.of_tensor]
        return tuple(dict.fromkeys(made))

    def refusals(self, option: str, layer: str) -> Iterator[tuple[str, str, str]]:
        """Layers that the device cannot have in 16 bits, with reason and hint, when one is listed."""
        concerned = [self.layers[layer]]
        if option == OUTPUTS:
            tensors = {tensor for group in self.classes(layer) for tensor in group.tensors}
            concerned += [other for other in self.layers.values() if tensors & _around(other)]
        for other in concerned:
            failed = self.refused.get(other.name)
            if failed is not None:
                yield other.name, failed.reason, failed.hint

    @cached_property
    def _legal(self) -> Mapping[str, frozenset[str]]:
        own = [name for name in self.layers if self.problem.placement.on_accelerator(name)]
        return {
            OUTPUTS: frozenset(
                self.known(OUTPUTS, name)
                for name in own
                if self.classes(name) and not any(self.refusals(OUTPUTS, name))
            ),
            PARAMETERS: frozenset(
                self.known(PARAMETERS, name)
                for name in own
                if has_parameters(self.layers[name]) and not any(self.refusals(PARAMETERS, name))
            ),
        }

    def legal(self, option: str) -> frozenset[str]:
        """The names in the model file of what may be in a list."""
        return self._legal[option]


def _around(layer: Layer) -> set[str]:
    return {value.name for value in (*layer.inputs, *layer.outputs)}
