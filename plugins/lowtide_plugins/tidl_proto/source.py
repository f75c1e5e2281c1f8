"""Reads a proto as encodings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import attrs
import numpy as np

from lowtide.calibrate import Range
from lowtide.encodings import EncodingRequest, Encodings, EncodingSource
from lowtide.errors import QuantizationError
from lowtide.ir import Array
from lowtide.quantize import numbers
from lowtide_plugins.tidl_proto.check import Problem, problems
from lowtide_plugins.tidl_proto.expected import Entry, entries
from lowtide_plugins.tidl_proto.files import named, network_file, network_of
from lowtide_plugins.tidl_proto.records import LayerParams, TensorParams
from lowtide_plugins.tidl_proto.text import read

SHOWN = 10
AGREE = 1e-5
"""Relative difference up to which a range and a scale mean the same: files round."""

ONE_CODE = 1.01
"""A symmetric range and its lowest code, 128 / 127 of it, with room for the rounding of files."""

FOREIGN = 0.02
"""Share of a layer's weights outside of their range from which on they are taken for other weights."""

WIDE_TYPES = (2, 3)
"""Element types of 16-bit codes."""


@attrs.frozen(kw_only=True)
class TidlProtoSource(EncodingSource):
    """Takes ranges, scales of weights, widths and biases from the file of ``quant_params_proto_path``.

    Minimum and maximum decide; a scale that follows from them is taken exactly as it is written. What is
    wrong or missing stops the compile, with ``proto_incomplete`` ``calibrate`` only what is wrong.
    """

    name: ClassVar[str] = "tidl-proto"

    def read(self, request: EncodingRequest) -> Encodings | None:
        """See `EncodingSource.read`."""
        chosen = request.options.quant_params_proto_path
        if not chosen:
            return None
        parts = entries(request.graph, request.target, request.placement)
        paths = named(chosen, len(parts))
        if not any(path.exists() for path in paths):
            _announce(request, Path(chosen))
            return None
        reader = _Reader(request, chosen)
        for path, part in zip(paths, parts, strict=True):
            reader.part(path, part)
        return reader.encodings()


def _announce(request: EncodingRequest, chosen: Path) -> None:
    """Say where the network of a new proto goes, when another file has the expected name."""
    expected, path = chosen.with_suffix(".onnx"), network_file(chosen, request.model_digest)
    if path != expected and request.target.vendor_layers:
        request.diagnostics.info(
            "LT868",
            str(expected),
            f"the file stays as it is, and the network that {chosen.name} is for is written to {path}",
            f"give the vendor's tool {path.name} together with {chosen.name}",
        )


class _Reader:
    def __init__(self, request: EncodingRequest, chosen: str) -> None:
        self.request = request
        self.chosen = chosen
        self.problems: list[tuple[Path, Problem]] = []
        self.ranges: dict[str, Range] = {}
        self.scales: dict[str, tuple[float, ...]] = {}
        self.biases: dict[str, Array] = {}
        self.activation_bits: dict[str, int] = {}
        self.weight_bits: dict[str, int] = {}

    def part(self, path: Path, part: tuple[Entry, ...]) -> None:
        if not path.exists():
            self.problems.append((path, Problem("", "", "there is no such file", "missing")))
            return
        net = read(path)
        asymmetric = self.request.rule.activation == "asymmetric"
        found = list(problems(net, part, asymmetric=asymmetric))
        self.problems += [(path, problem) for problem in found]
        unusable = {(problem.layer, problem.tensor) for problem in found}
        known = {entry.name: entry for entry in part}
        for layer in net.layers:
            entry = known.get(layer.layer_name)
            if entry is not None and (layer.layer_name, "") not in unusable:
                self.layer(layer, entry, {tensor for name, tensor in unusable if name == layer.layer_name})

    def layer(self, layer: LayerParams, entry: Entry, unusable: set[str]) -> None:
        bits = 16 if layer.bit_depth == 2 else 8
        for at, (value, tensor) in enumerate(zip(entry.values, layer.outputs, strict=False)):
            if f"outputs[{at}]" not in unusable:
                self.ranges[value.name] = Range(float(np.float32(tensor.min)), float(np.float32(tensor.max)))
                self.activation_bits[value.name] = bits
        if entry.operands is not None and layer.weights and "weights" not in unusable:
            tensor = layer.weights[0]
            wide = bits == 16 or tensor.element_type in WIDE_TYPES
            self.weight_bits[entry.name] = 16 if wide else 8
            self.scales[entry.name] = self.weight_scales(layer, tensor, self.weight_bits[entry.name])
            self.check_weights(entry, tensor)
        if entry.operands is not None and layer.bias and "bias" not in unusable:
            self.biases[entry.name] = np.array(layer.bias[0].value, np.float64)

    def check_weights(self, entry: Entry, tensor: TensorParams) -> None:
        """Warn when the weights are not those that the proto was made for."""
        assert entry.operands is not None  # noqa: S101 - the caller asks
        constant = entry.operands.weights.constant
        if constant is None:
            return
        weights = constant.array()
        limit = ONE_CODE * max(abs(tensor.min), abs(tensor.max))
        beyond = float((np.abs(weights) > limit).mean()) if weights.size else 0.0
        if beyond > FOREIGN:
            made_for = network_of(Path(self.chosen), self.request.model_digest)
            hint = f"compile the network that it is for{f', {made_for}' if made_for else ''}"
            self.request.diagnostics.warning(
                "LT866",
                f"{self.chosen}, layer {entry.name}, weights",
                f"{beyond:.0%} of the weights lie outside of {tensor.min:g} to {tensor.max:g}: the proto was "
                "made for other weights",
                hint=hint,
            )

    def weight_scales(self, layer: LayerParams, tensor: TensorParams, bits: int) -> tuple[float, ...]:
        """The scales as they are written where the range agrees, else that which the range gives."""
        rule = self.request.rule
        implied = numbers.weight_params(
            np.array([tensor.min, tensor.max]),
            bits,
            axis=None,
            power=rule.weight_scale == "power-of-two",
            narrow=rule.weight_codes == "narrow",
        ).scale[0]
        written = tuple(float(np.float32(1.0 / scale)) for scale in tensor.scale)
        if written and abs(max(written) - implied) <= AGREE * implied:
            return written
        if written:
            self.request.diagnostics.warning(
                "LT864",
                f"{self.chosen}, layer {layer.layer_name}, weights",
                f"the scale {tensor.scale[0]:g} does not follow from the range {tensor.min:g} to "
                f"{tensor.max:g}, which decides",
            )
        return (implied,)

    def encodings(self) -> Encodings:
        stopping = [
            (path, problem)
            for path, problem in self.problems
            if problem.kind == "wrong" or self.request.options.proto_incomplete != "calibrate"
        ]
        if stopping:
            raise _refusal(stopping)
        for path, problem in self.problems:
            place = f"{path}, {problem.layer} {problem.tensor}".rstrip(" ,")
            text = f"{problem.message}; it is left to calibration"
            self.request.diagnostics.warning("LT865", place, text)
        return Encodings(
            origin=self.chosen,
            explicit=True,
            ranges=self.ranges,
            weight_scales=self.scales,
            biases=self.biases,
            activation_bits=self.activation_bits,
            weight_bits=self.weight_bits,
        )


def _refusal(found: list[tuple[Path, Problem]]) -> QuantizationError:
    path, first = found[0]
    missing = all(problem.kind == "missing" for _, problem in found)
    hint = "calibrate anew into another file"
    if missing:
        hint = (
            "--set proto_incomplete=calibrate fills in what is missing; or calibrate anew into another file"
        )
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    error = QuantizationError(f"does not fit the network: {first}{more}", place=str(path), hint=hint)
    for line in _lines(found[1:]):
        error.add_note(line)
    return error


def _lines(found: list[tuple[Path, Problem]]) -> Iterator[str]:
    for path, problem in found[: SHOWN - 1]:
        yield f"{path}: {problem}"
    if len(found) >= SHOWN:
        yield f"and {len(found) - SHOWN + 1} more"
