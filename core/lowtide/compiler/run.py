"""Execution of a graph in one of the modes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import attrs

from lowtide.data import DataSource, Frame, InputSpec, Preprocess
from lowtide.errors import OptionError, nearest
from lowtide.exact import ExactSession, Profile
from lowtide.ir import Array, Graph
from lowtide.options import CompileOptions
from lowtide.runtime import Runner, Session, in_flight, to_model

Mode = Literal["float", "qdq", "exact"]
MODES: tuple[Mode, ...] = ("float", "qdq", "exact")


@attrs.frozen
class Device:
    """What exact execution has to know besides the network.

    Attributes:
        profile: how integers are rounded.
        on_host: names of the layers that run in float.
    """

    profile: Profile
    on_host: frozenset[str]


def input_specs(graph: Graph) -> tuple[InputSpec, ...]:
    """What a frame must hold for a graph."""
    return tuple(
        InputSpec(name=value.name, dtype=value.type.dtype.value, shape=value.type.static_shape)
        for value in graph.inputs
    )


def preprocess_for(options: CompileOptions, given: Preprocess | None) -> Preprocess | None:
    """How images become arrays under the options: without mean and scale when the network has them inside."""
    mean, scale = options.input_mean, options.input_scale
    if options.input_optimization:
        mean, scale = (), ()
    elif not mean and not scale:
        return given
    return attrs.evolve(given or Preprocess(), mean=mean, scale=scale)


def session_of(graph: Graph, mode: Mode, device: Device | None = None) -> Runner:
    """A session that runs the graph in a mode.

    Raises:
        OptionError: when there is no such mode, or nobody says how the device rounds.
    """
    if mode not in MODES:
        raise OptionError(f"there is no mode {mode!r}", place="mode", hint=nearest(str(mode), MODES))
    if mode == "exact":
        if device is None:
            raise OptionError(
                "exact execution needs a network that was compiled for a device",
                place="mode",
                hint="compile the model and run the output folder",
            )
        return ExactSession(graph, device.profile, on_host=device.on_host)
    return Session(to_model(graph, quantized=mode != "float"))


def execute(
    graph: Graph, feeds: Mapping[str, Array], mode: Mode, device: Device | None = None
) -> dict[str, Array]:
    """Run one frame that fits, as those of a `DataSource` do.

    Raises:
        OptionError: when there is no such mode.
    """
    return rename_outputs(graph, session_of(graph, mode, device).run(feeds))


def run_frames(
    graph: Graph, frames: DataSource, mode: Mode, device: Device | None = None
) -> Iterator[tuple[Frame, dict[str, Array]]]:
    """Run frame after frame, two at once, in order."""
    session = session_of(graph, mode, device)
    for frame, results in in_flight(session, frames.frames(), lambda frame: frame.feeds):
        yield frame, rename_outputs(graph, results)


def rename_outputs(graph: Graph, results: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs under the names of the graph, whatever a session calls them."""
    return {value.name: array for value, array in zip(graph.outputs, results.values(), strict=True)}
