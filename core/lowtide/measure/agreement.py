"""How far the emulation of a quantized network by Q/DQ pairs is from what the device computes.

Layer by layer, on the same input codes, the two differ by one code where rounding decides, or one of them is
wrong. From end to end such differences multiply, and only their share and size can be stated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np

from lowtide.data import DataSource
from lowtide.exact import ExactSession, Profile
from lowtide.ir import Array, Graph
from lowtide.measure.alone import LayersAlone, codes_of, quant_of
from lowtide.measure.layers import numbers_of
from lowtide.measure.signal import ErrorSum
from lowtide.runtime import Nothing, Runner, Session, dequantize, to_model

MOST_FRAMES = 2
"""Frames that layers are compared on one by one; outputs are compared on all that are given."""

TOLERATED = 1
"""The largest difference in codes that rounding explains."""


@attrs.define
class CodeDifference:
    """Codes that were compared.

    Attributes:
        compared: how many.
        differing: how many of them differ.
        largest: by how much at most.
    """

    compared: int = 0
    differing: int = 0
    largest: int = 0

    def add(self, first: Array, second: Array) -> None:
        """Take in two arrays of codes."""
        distance = np.abs(first.astype(np.int64) - second.astype(np.int64))
        self.compared += distance.size
        self.differing += int(np.count_nonzero(distance))
        self.largest = max(self.largest, int(distance.max(initial=0)))

    @property
    def share(self) -> float:
        """The share of codes that differ, 0 to 1."""
        return self.differing / self.compared if self.compared else 0.0


@attrs.frozen
class Agreement:
    """Exact execution beside the Q/DQ emulation.

    Attributes:
        frames: how many frames the outputs were compared on.
        layers: on the same input codes, by layer.
        codes: from end to end, by the tensor whose codes an output has.
        outputs: the error of exact execution against the float network, by output; of an output of integers
            that of the numbers they stand for.
        emulated: the same of the emulation.
    """

    frames: int
    layers: Mapping[str, CodeDifference]
    codes: Mapping[str, CodeDifference]
    outputs: Mapping[str, ErrorSum]
    emulated: Mapping[str, ErrorSum] = attrs.field(factory=dict[str, ErrorSum])

    @property
    def suspicious(self) -> tuple[str, ...]:
        """Layers that differ by more than rounding explains."""
        return tuple(name for name, found in self.layers.items() if found.largest > TOLERATED)


def measure_agreement(
    reference: Graph,
    quantized: Graph,
    profile: Profile,
    on_host: Sequence[str],
    frames: DataSource,
    *,
    progress: Callable[[int, int | None], None] | None = None,
) -> Agreement:
    """Run frames through the float network, the emulation and the integer pipeline.

    Args:
        reference: the prepared float network.
        quantized: the network made from it.
        profile: how the device rounds.
        on_host: names of the layers that run in float.
        frames: what to run, one at a time.
        progress: told how many of how many frames are done.
    """
    alone = LayersAlone(quantized, frozenset(on_host))
    ends = _ends(quantized)
    real = {v.name: number.name for v in quantized.outputs if (number := numbers_of(v)) is not None}
    sources = list(dict.fromkeys(real.values()))
    names = list(dict.fromkeys([*ends.values(), *sources]))
    exact = _with_outputs(quantized, real, profile, on_host, [*alone.needed, *ends.values()])
    # A network may end with nothing that has numbers: only its layers are compared then.
    emulated: Runner = Session(to_model(quantized, quantized=True, outputs=names)) if names else Nothing()
    plain: Runner = Session(to_model(reference, quantized=False, outputs=sources)) if sources else Nothing()
    single = Session(alone.model()) if alone.layers else None
    found = Agreement(
        0,
        {layer: CodeDifference() for layer in alone.layers},
        {end: CodeDifference() for end in ends.values()},
        {name: ErrorSum() for name in real},
        {name: ErrorSum() for name in real},
    )
    count = 0
    for frame in frames.frames():
        outputs, codes = exact.run_codes(frame.feeds)
        floats = dict(zip(sources, plain.run(frame.feeds).values(), strict=True))
        shown = dict(zip(names, emulated.run(frame.feeds).values(), strict=True))
        for name, source in real.items():
            found.outputs[name].add(floats[source], outputs[source])
            found.emulated[name].add(floats[source], shown[source])
        for name in found.codes:
            found.codes[name].add(codes[name], codes_of(shown[name], quantized.values[name]))
        if single is not None and count < MOST_FRAMES:
            _compare(alone, single, codes, found.layers)
        count += 1
        if progress is not None:
            progress(count, frames.count)
    return attrs.evolve(found, frames=count)


def _with_outputs(
    graph: Graph, real: Mapping[str, str], profile: Profile, on_host: Sequence[str], codes: Sequence[str]
) -> ExactSession:
    """A session that returns real numbers where the network gives integers."""
    shown = graph.clone()
    shown.set_outputs([shown.values[name] for name in dict.fromkeys(real.values())])
    return ExactSession(shown, profile, on_host=on_host, codes=dict.fromkeys(codes))


def _compare(
    alone: LayersAlone, session: Session, codes: Mapping[str, Array], found: Mapping[str, CodeDifference]
) -> None:
    feeds = {twin.name: dequantize(codes[value.name], quant_of(value)) for value, twin in alone.fed.items()}
    results = session.run(feeds)
    for (layer, (value, _)), real in zip(alone.layers.items(), results.values(), strict=True):
        found[layer].add(codes[value.name], codes_of(real, value))


def _ends(graph: Graph) -> dict[str, str]:
    """The tensor whose codes an output has, by the name of the output."""
    found: dict[str, str] = {}
    for value in graph.outputs:
        maker = value.producer
        source = maker.value(0) if maker is not None and maker.op == "QuantizeLinear" else value
        if source.type.quant is not None and source.type.is_static and not source.is_constant:
            found[value.name] = source.name
    return found
