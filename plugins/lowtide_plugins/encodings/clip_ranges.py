"""Networks from quantization-aware training that carry their ranges as clips.

Training with learned clips (PACT and the vendor's first quantization-aware training) ends in a float network
in which every activation is clipped to the range that it was trained for, signed ones too. These ranges are
used as they are: measured ones would be narrower than what the weights were trained against.

Source: Choi et al., PACT: Parameterized Clipping Activation for Quantized Neural Networks, 2018; the vendor's
published training-side simulation, whose clips are powers of two.
"""

from __future__ import annotations

import math
from typing import ClassVar

import attrs

from lowtide.calibrate import Range
from lowtide.encodings import EncodingRequest, Encodings, EncodingSource
from lowtide.errors import short_name
from lowtide.ir import Graph, Layer, layers
from lowtide.options import CompileOptions
from lowtide.precision import layer_reads, quantized_values
from lowtide.quantize.missing import BOUNDED, WITHIN_INPUT
from lowtide.quantize.operands import MAC_OPS
from lowtide_plugins.passes.facts import bounds

ENOUGH = 0.5
"""The share of convolutions and products behind which a clip must stand, so that it is not mere ReLU6."""


@attrs.frozen(kw_only=True)
class ClipRanges(EncodingSource):
    """Takes ranges from clips when a network has them almost everywhere, signed ones among them.

    With the option ``prequantized_model`` 1 whatever clips there are are used, with ``recalibrate`` none.
    """

    name: ClassVar[str] = "clip-ranges"

    def read(self, request: EncodingRequest) -> Encodings | None:
        """See `EncodingSource.read`."""
        wanted = request.options.prequantized_model
        if wanted is False or request.options.recalibrate != "no":
            return None
        clips = _clips(request.graph)
        if not clips or not (wanted or _is_trained_so(request.graph, clips)):
            return None
        known = _propagate(request, clips)
        needed = [value.name for value in quantized_values(request.graph, request.target, request.placement)]
        ranges = {name: known[name] for name in needed if name in known}
        powers = sum(_is_power(found) for found in clips.values())
        rest = f"; {len(needed) - len(ranges)} are left to calibration" if len(ranges) < len(needed) else ""
        request.diagnostics.info(
            "LT863",
            request.graph.name,
            f"{len(ranges)} of {len(needed)} ranges are those of clips in the network, {powers} of its "
            f"{len(clips)} clips end at powers of two{rest}{_useless(request.graph)}",
            "--set recalibrate=data measures them instead",
        )
        return Encodings(origin="clips of the network", ranges=ranges)


def _clips(graph: Graph) -> dict[str, Range]:
    """The limits of every layer that ends in a clamp on both sides, by its output."""
    found: dict[str, Range] = {}
    for layer in layers(graph):
        limits = bounds(layer.nodes[-1]) if layer.nodes[-1].op == "Clip" else None
        if limits is not None and all(map(math.isfinite, limits)) and limits[0] <= 0 < limits[1]:
            found[layer.output.name] = Range(*limits)
    return found


def _useless(graph: Graph) -> str:
    """Words on clips whose limits, swapped, equal or NaN, let nothing through that could be a range."""
    limits = {
        layer.output.name: bounds(layer.nodes[-1]) for layer in layers(graph) if layer.nodes[-1].op == "Clip"
    }
    wrong = [
        f"{short_name(name)} {ends[0]:g} to {ends[1]:g}"
        for name, ends in limits.items()
        if ends and not ends[0] < ends[1]
    ]
    if not wrong:
        return ""
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return f"; limits that are no range: {', '.join(wrong[:3])}{more}"


def _is_trained_so(graph: Graph, clips: dict[str, Range]) -> bool:
    """ReLU6 clips at 0; only training for fixed point clips numbers that may be negative."""
    products = [layer for layer in layers(graph) if layer.op in MAC_OPS]
    clipped = sum(_is_clipped(layer, clips) for layer in products)
    return any(found.min < 0 for found in clips.values()) and clipped > ENOUGH * len(products)


def _is_clipped(layer: Layer, clips: dict[str, Range]) -> bool:
    """Whether a clip is part of the layer, or the only thing that reads it."""
    readers = layer.output.users
    return layer.output.name in clips or (len(readers) == 1 and readers[0].output.name in clips)


def _propagate(request: EncodingRequest, clips: dict[str, Range]) -> dict[str, Range]:
    """Ranges that follow from others: through what moves codes, and from what is bounded."""
    known = dict(clips)
    pixels = _input_range(request.options)
    if pixels is not None:
        known |= {value.name: pixels for value in request.graph.inputs if value.type.dtype.is_float}
    for layer in layers(request.graph):
        operator = request.target.operators.get(layer.op)
        reads = [known.get(value.name) for value in layer_reads(layer)]
        ranges = [found for found in reads if found is not None]
        moves = operator is not None and operator.kind == "same-codes"
        if layer.output.name in known:
            continue
        if layer.nodes[-1].op in BOUNDED:
            known[layer.output.name] = Range(*BOUNDED[layer.nodes[-1].op])
        elif ranges and len(ranges) == len(reads) and (moves or _within(layer)):
            low = 0.0 if layer.op == "Relu" else min(found.min for found in ranges)
            made = Range(low, max(found.max for found in ranges))
            known |= dict.fromkeys((value.name for value in layer.outputs), made)
    # What a clip alone reads needs no more than what the clip lets through.
    for value in (*request.graph.inputs, *(layer.output for layer in layers(request.graph))):
        readers = value.users
        if value.name not in known and len(readers) == 1 and readers[0].output.name in clips:
            known[value.name] = clips[readers[0].output.name]
    return known


def _within(layer: Layer) -> bool:
    return len(layer.nodes) == 1 and layer.op in WITHIN_INPUT


def _input_range(options: CompileOptions) -> Range | None:
    """What pixels from 0 to 255 become by mean and scale, over all channels."""
    if not (options.input_mean and options.input_scale):
        return None
    ends = [
        (pixel - mean) * scale
        for mean, scale in zip(options.input_mean, options.input_scale, strict=False)
        for pixel in (0.0, 255.0)
    ]
    return Range(0.0, 255.0) if options.input_optimization else Range(min(ends), max(ends))


def _is_power(found: Range) -> bool:
    largest = max(abs(found.min), found.max)
    # The upper end is often one step of the code below the power of two.
    return math.isclose(2.0 ** math.ceil(math.log2(largest) - 1e-9), largest, rel_tol=2**-6)
