"""The error of every layer in exact execution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lowtide.data import DataSource, Frame
from lowtide.exact import ExactSession, Profile
from lowtide.ir import Array, DType, Graph, TensorType, Value, layers
from lowtide.ir.shapes import infer_types
from lowtide.measure.alone import LayersAlone
from lowtide.measure.histogram import Histogram, sample_step
from lowtide.measure.layers import SCALAR, Judged, LayerError, Measurement, numbers_of
from lowtide.measure.signal import ErrorSum
from lowtide.runtime import Runner, Session, in_flight, to_model


def measure_exact_layers(
    reference: Graph,
    quantized: Graph,
    profile: Profile,
    on_host: Sequence[str],
    frames: DataSource,
    *,
    judge: Graph | None = None,
    spans: Mapping[str, tuple[float, float]] | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Measurement:
    """Run all frames through the float network and the integer pipeline.

    The cumulative error of a layer is that of a run of the whole network, the isolated one that of its codes
    when it reads the codes of the float network's tensors; a layer on the host has none.

    Args:
        reference: the float network that the other was made from; tensors of both are matched by name.
        quantized: the network made from it.
        profile: how the device rounds.
        on_host: names of the layers that run in float.
        frames: what to run, one at a time.
        judge: the float network whose outputs are the right ones; by default the reference.
        spans: tensors of the float network to make histograms of, and between which numbers.
        progress: told how many of how many frames are done.
    """
    run = _Run(reference, quantized, profile, frozenset(on_host), judge or reference)
    steps = {name: step for name in spans or {} if (step := run.sample(name)) is not None}
    histograms = {name: Histogram(*(spans or {})[name]) for name in steps}
    whole = {name: ErrorSum() for name in run.made}
    single = {name: ErrorSum() for name in run.alone.layers}
    outputs = {name: ErrorSum() for name in run.outputs}
    count = 0
    for _, found in in_flight(run.judged(), frames.frames(), _feeds):
        for kind, sums in (("whole", whole), ("alone", single)):
            for name, total in sums.items():
                signal, noise, largest = found[f"{kind} {name}"]
                total.add_sums(float(signal), float(noise), float(largest))
        for name, total in outputs.items():
            total.add(found[f"float {name}"], found[f"output {name}"])
        for name, histogram in histograms.items():
            histogram.add(found[f"sample {name}"])
        count += 1
        if progress is not None:
            progress(count, frames.count)
    errors = tuple(LayerError(name, single.get(name), total) for name, total in whole.items())
    return Measurement(count, errors, outputs, histograms)


def _feeds(frame: Frame) -> Mapping[str, Array]:
    return frame.feeds


class _Run:
    """Everything that one frame goes through; only sums leave it, and what outputs and histograms need."""

    def __init__(
        self, reference: Graph, quantized: Graph, profile: Profile, on_host: frozenset[str], judge: Graph
    ) -> None:
        found = layers(quantized)
        known = reference.values
        self.made = [layer.name for layer in found if _is_measured(known.get(layer.name))]
        unknown = {layer.name for layer in found if any(v.name not in known for v in layer.inputs)}
        unknown |= {layer.name for layer in found} - set(self.made)
        self.alone = LayersAlone(quantized, on_host | unknown)
        self.outputs = {v.name: real for v in quantized.outputs if (real := numbers_of(v)) is not None}
        self.steps: dict[str, int] = {}
        self._reference, self._outside = reference, judge
        wanted = [*(value.name for value in self.alone.fed), *self.made]
        self.names = list(dict.fromkeys([*wanted, *(value.name for value in self.outputs.values())]))
        self._plain = Session(to_model(reference, quantized=False, outputs=self.names))
        whole = quantized.clone()
        shown = [*self.made, *(value.name for value in self.outputs.values())]
        whole.set_outputs([whole.values[name] for name in dict.fromkeys(shown)])
        self._whole = ExactSession(whole, profile, on_host=on_host)
        self._single = ExactSession(self.alone.graph, profile) if self.alone.layers else None
        self._judge = Session(
            to_model(_judge(reference, self.made, list(self.alone.layers)), quantized=False)
        )

    def judged(self) -> Runner:
        """Itself, or with the outputs of a judge that is not the reference."""
        if self._outside is self._reference:
            return self
        names = {f"float {name}": value.name for name, value in self.outputs.items()}
        return Judged(self, self._outside, names)

    def sample(self, name: str) -> int | None:
        """Have samples of a float tensor returned; every how manyth element, or ``None``."""
        value = self._reference.values.get(name)
        step = sample_step(value) if name in self.names and _is_float(value) and value is not None else None
        if step is not None:
            self.steps[name] = step
        return step

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Sums by layer, ``[signal, noise, largest]``; outputs of both networks; samples."""
        floats = dict(zip(self.names, self._plain.run(feeds).values(), strict=True))
        exact = self._whole.run(feeds)
        judged = {f"whole {name}": exact[name] for name in self.made}
        if self._single is not None:
            given = {twin.name: floats[value.name] for value, twin in self.alone.fed.items()}
            results = self._single.run(given).values()
            judged |= {f"alone {name}": real for name, real in zip(self.alone.layers, results, strict=True)}
        sums = self._judge.run({**{f"float {name}": floats[name] for name in self.made}, **judged})
        found = {
            key: np.array([sums[f"signal {key.split(' ', 1)[1]}"], sums[f"noise {key}"], sums[f"size {key}"]])
            for key in judged
        }
        for name, value in self.outputs.items():
            found[f"float {name}"], found[f"output {name}"] = floats[value.name], exact[value.name]
        for name, step in self.steps.items():
            found[f"sample {name}"] = floats[name].reshape(-1)[::step]
        return found


def _is_float(value: Value | None) -> bool:
    return value is not None and value.type.dtype is DType.FLOAT32


def _is_measured(value: Value | None) -> bool:
    """Whether every run has as many elements: where data decide, there is nothing to compare one by one."""
    return _is_float(value) and value is not None and value.type.is_static


def _judge(reference: Graph, made: Sequence[str], alone: Sequence[str]) -> Graph:
    """A graph that sums squares: faster than arrays, since no difference leaves the cache."""
    graph = Graph("judge")
    results: list[Value] = []

    def reduce(op: str, value: Value, name: str) -> None:
        results.append(graph.add_node(op, [value], [(name, SCALAR)], {"keepdims": 0}).output)

    for name in made:
        plain = TensorType(DType.FLOAT32, reference.values[name].type.shape)
        real = graph.add_input(f"float {name}", plain)
        reduce("ReduceSumSquare", real, f"signal {name}")
        for kind in ("whole", "alone") if name in alone else ("whole",):
            key = f"{kind} {name}"
            codes = graph.add_input(key, plain)
            difference = graph.add_node("Sub", [real, codes], [(f"difference {key}", plain)]).output
            size = graph.add_node("Abs", [difference], [(f"absolute {key}", plain)]).output
            reduce("ReduceSumSquare", difference, f"noise {key}")
            reduce("ReduceMax", size, f"size {key}")
    graph.set_outputs(results)
    infer_types(graph)
    return graph
