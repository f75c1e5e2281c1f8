"""The error of every layer in exact execution."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lowtide.data import DataSource
from lowtide.exact import ExactSession, Profile
from lowtide.ir import Graph, layers
from lowtide.measure.alone import LayersAlone, quant_of
from lowtide.measure.layers import LayerError, Measurement
from lowtide.measure.signal import ErrorSum
from lowtide.runtime import Session, dequantize, to_model


def measure_exact_layers(
    reference: Graph,
    quantized: Graph,
    profile: Profile,
    on_host: Sequence[str],
    frames: DataSource,
    *,
    progress: Callable[[int, int | None], None] | None = None,
) -> Measurement:
    """Run all frames through the float network and the integer pipeline.

    The cumulative error of a layer is that of its codes in a run of the whole network, the isolated one that
    of its codes when it reads the codes of the float network's tensors. A layer on the host has no codes.

    Args:
        reference: the prepared float network; tensors of both are matched by name.
        quantized: the network made from it.
        profile: how the device rounds.
        on_host: names of the layers that run in float.
        frames: what to run, one at a time.
        progress: told how many of how many frames are done.
    """
    alone = LayersAlone(quantized, frozenset(on_host))
    fed = [value for value in alone.fed if value.name in reference.values]
    made = {
        layer.name: layer.output
        for layer in layers(quantized)
        if layer.output.type.quant is not None and layer.output.name in reference.values
    }
    values = (*fed, *made.values(), *reference.outputs)
    wanted = list(dict.fromkeys(value.name for value in values))
    plain = Session(to_model(reference, quantized=False, outputs=wanted))
    whole = ExactSession(quantized, profile, on_host=on_host, codes=[value.name for value in made.values()])
    complete = len(fed) == len(alone.fed) and bool(alone.layers)
    single = ExactSession(alone.graph, profile) if complete else None
    cumulative = {name: ErrorSum() for name in made}
    isolated = {name: ErrorSum() for name in alone.layers} if complete else {}
    outputs = {value.name: ErrorSum() for value in quantized.outputs if value.type.dtype.is_float}
    count = 0
    for frame in frames.frames():
        floats = dict(zip(wanted, plain.run(frame.feeds).values(), strict=True))
        results, codes = whole.run_codes(frame.feeds)
        for name, value in made.items():
            real = dequantize(codes[value.name], quant_of(value))
            cumulative[name].add(floats[value.name], real)
        for name, total in outputs.items():
            total.add(floats[name], results[name])
        if single is not None:
            feeds = {alone.fed[value].name: np.asarray(floats[value.name], np.float32) for value in fed}
            for (name, (value, _)), real in zip(
                alone.layers.items(), single.run(feeds).values(), strict=True
            ):
                isolated[name].add(floats[value.name], real)
        count += 1
        if progress is not None:
            progress(count, frames.count)
    errors = tuple(LayerError(name, isolated.get(name), total) for name, total in cumulative.items())
    return Measurement(count, errors, outputs)
