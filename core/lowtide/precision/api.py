"""What a precision strategy is given and what it returns."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import ClassVar

import attrs

from lowtide.ir import Array, Graph, layers
from lowtide.options import CompileOptions
from lowtide.precision.classes import PrecisionClass
from lowtide.target import Placement, Target


@attrs.frozen(kw_only=True)
class WeighedPlan:
    """A plan that a strategy has weighed, for the report.

    Attributes:
        latency_ms: estimated time of one frame.
        error: noise by signal of the outputs.
        label: what has 16 bits, in a few words.
        number: its place on the front, counted from 1; ``None`` for the plan that was returned, where that
            is not on the front: finished networks differ from what the front tells of them.
        chosen: whether it is the plan that was returned.
        measured: whether the error is that of the finished network, and not that of an emulation.
    """

    latency_ms: float
    error: float
    label: str
    number: int | None = None
    chosen: bool = False
    measured: bool = False


@attrs.frozen
class PrecisionPlan:
    """Widths in bits.

    Attributes:
        activations: by tensor name, for every tensor of every class.
        weights: by layer name, for every layer on the accelerator.
        reasons: why a class, or a layer whose parameters alone are wider, has its width, by its name; for the
            report.
        front: plans of which none is both faster and better than another, the fastest first; for the report.
    """

    activations: Mapping[str, int]
    weights: Mapping[str, int]
    reasons: Mapping[str, str] = attrs.field(factory=dict[str, str])
    front: tuple[WeighedPlan, ...] = ()

    def with_class(self, problem: PrecisionProblem, group: PrecisionClass, bits: int) -> PrecisionPlan:
        """The plan with another width of a class; parameters behind a wider output get it, too."""
        weights = dict(self.weights)
        for layer in layers(problem.graph):
            if layer.name in weights and any(value.name in group.tensors for value in layer.outputs):
                weights[layer.name] = max(bits, weights[layer.name])
        activations = {**self.activations, **dict.fromkeys(group.tensors, bits)}
        return attrs.evolve(self, activations=activations, weights=weights)

    def same_widths(self, other: PrecisionPlan) -> bool:
        """Whether both give every tensor and every layer the same width."""
        return self.activations == other.activations and self.weights == other.weights


class Costs(abc.ABC):
    """What widths cost on the device, by its latency model; bound to one network."""

    @abc.abstractmethod
    def ms(self, plan: PrecisionPlan) -> float:
        """Milliseconds of one frame."""

    @abc.abstractmethod
    def layer_ms(self, layer: str, activations: Mapping[str, int], weights: int) -> float:
        """Milliseconds of one layer.

        Args:
            layer: its name.
            activations: the widths of the tensors around it at least, by name.
            weights: the width of its parameters.
        """

    @property
    @abc.abstractmethod
    def narrow_ms(self) -> float:
        """Milliseconds with 8 bits everywhere: T_8, what a factor is multiplied with."""


@attrs.frozen
class Budget:
    """What a plan may cost.

    Attributes:
        ms: milliseconds of one frame.
        text: how the user said it, for messages.
    """

    ms: float
    text: str

    def holds(self, ms: float) -> bool:
        """Whether a plan fits, up to the rounding of sums."""
        return ms <= self.ms * (1 + 1e-9)


class Goal(abc.ABC):
    """A condition on a figure of the finished network."""

    text: str

    @abc.abstractmethod
    def figure(self, plan: PrecisionPlan) -> float:
        """The figure of the network that a plan gives, with all that the recipe does: a long measurement."""

    @abc.abstractmethod
    def met(self, figure: float) -> bool:
        """Whether a figure is good enough."""


@attrs.frozen
class Sensitivities:
    """How much larger the error is with 8 than with 16 bits, one at a time.

    Attributes:
        activations: by class name, for the tensors of the class alone.
        weights: by layer name, for the parameters of the layer alone.
        effects: what 8 instead of 16 bits add to the outputs, by ``("activations", class)`` or ``("weights",
            layer)``: vectors float32 of one length, in units in which the error is the squared length of the
            sum. Effects of several may cancel, or add up to more than their errors.
    """

    activations: Mapping[str, float]
    weights: Mapping[str, float]
    effects: Mapping[tuple[str, str], Array] = attrs.field(factory=dict[tuple[str, str], Array], repr=False)


class Oracle(abc.ABC):
    """Measures plans. The first question makes the networks that it mixes; who asks none pays nothing.

    Errors are noise by signal of the outputs against the float network, the mean over outputs; of an output
    of integers, the share that differs. Answers are kept, and found again in a later compile of the same.
    """

    @abc.abstractmethod
    def error(self, plan: PrecisionPlan) -> float:
        """The error under a plan, in emulation, on the search frames.

        The network is put together from one with 8 and one with 16 bits, so plans that the device forbids
        may be asked, too.
        """

    @abc.abstractmethod
    def sensitivities(self, around: PrecisionPlan | None = None) -> Sensitivities:
        """What 8 bits cost each class and the parameters of each layer, where the device has a choice.

        Args:
            around: the widths of all others; 16 bits by default.
        """

    @abc.abstractmethod
    def settle(self, plan: PrecisionPlan) -> None:
        """Run the recipe on a plan; later answers are for what it found best there."""

    @abc.abstractmethod
    def measured(self, plan: PrecisionPlan) -> float:
        """The error of the finished network, in exact execution; takes long, and a legal plan."""

    @abc.abstractmethod
    def interrupted(self) -> None:
        """The user stopped the search; what is returned is the best so far."""

    @property
    @abc.abstractmethod
    def passes(self) -> float:
        """What was asked for so far, in runs of the whole network for each calibration frame.

        What an earlier compile has found counts, too, so that a search that goes on decides as one that was
        never interrupted.
        """


@attrs.frozen(kw_only=True)
class PrecisionProblem:
    """Everything that a strategy may look at.

    Attributes:
        costs: ``None`` where the device has no latency model.
        budget: what the plan may cost at most.
        goal: what the plan must reach, at as little latency as possible.
        oracle: ``None`` without frames.
    """

    graph: Graph
    target: Target
    placement: Placement
    options: CompileOptions
    classes: tuple[PrecisionClass, ...]
    costs: Costs | None = None
    budget: Budget | None = None
    goal: Goal | None = None
    oracle: Oracle | None = None

    def uniform(self, bits: int) -> PrecisionPlan:
        """One width for all."""
        return PrecisionPlan(
            activations={tensor: bits for group in self.classes for tensor in group.tensors},
            weights={
                layer.name: bits for layer in layers(self.graph) if self.placement.on_accelerator(layer.name)
            },
        )


@attrs.frozen(kw_only=True)
class PrecisionStrategy(abc.ABC):
    """Assigns widths. Subclasses are decorated with ``@attrs.frozen(kw_only=True)``; fields are options."""

    name: ClassVar[str]

    @abc.abstractmethod
    def plan(self, problem: PrecisionProblem) -> PrecisionPlan:
        """Choose a width for every class and for the parameters of every layer on the accelerator.

        A layer with a 16-bit output has 16-bit parameters, and the budget holds if there is one.

        Raises:
            OptionError: when what the user asks for is impossible.
        """
