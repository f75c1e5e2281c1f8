"""Options that help, as ``key=value``; each can be set as it stands for this network on this device."""

from __future__ import annotations

from lowtide.diagnosis import DiagnosisView
from lowtide.options import FIELDS
from lowtide.precision import precision_classes
from lowtide.target import check_node

WIDE = 16
SAME_WIDTHS = frozenset({"manual", None})
"""Strategies that heed the lists of 16-bit layers."""


def wider_output(view: DiagnosisView, tensor: str) -> str | None:
    """16 bits for a tensor and those that share its width; ``None`` where the device has none for it."""
    if view.prequantized:
        return recalibrated()
    maker = view.makers.get(tensor)
    if maker is None or WIDE not in view.target.bits or view.options.strategy not in SAME_WIDTHS:
        return None
    groups = precision_classes(view.graph, view.target, view.placement)
    raised = next((group for group in groups if tensor in group.tensors), None)
    if raised is None or view.plan.activations.get(tensor) == WIDE:
        return None
    members = frozenset(raised.tensors)
    for layer in view.layers.values():
        touched = any(value.name in members for value in (*layer.inputs, *layer.outputs))
        if touched and view.placement.on_accelerator(layer.name):
            size = len(layer.nodes)
            if any(check_node(view.target, node, WIDE, layer_size=size) for node in layer.nodes):
                return None
    return _listed("output_feature_16bit_names_list", view, maker.name)


def wider_parameters(view: DiagnosisView, layer: str) -> str | None:
    """16 bits for the weights of a layer; ``None`` where it has them or the device does not."""
    if view.prequantized:
        return recalibrated()
    if WIDE not in view.target.bits or view.options.strategy not in SAME_WIDTHS:
        return None
    if view.plan.weights.get(layer) == WIDE:
        return None
    return _listed("params_16bit_names_list", view, layer)


def on_host(view: DiagnosisView, layer: str) -> str:
    """The last resort: the layer in float, on the host."""
    return _listed("deny_list_layer_name", view, layer)


def calibrator(view: DiagnosisView, name: str) -> str | None:
    """Another calibrator; ``None`` where it is in use, nobody provides it, or no range comes from frames."""
    used = view.calibrator.partition("{")[0] == name
    return None if used or view.prequantized or name not in view.available["calibrator"] else f"calibrator={name}"


def passes(view: DiagnosisView, stage: str, name: str) -> str | None:
    """A pass at the end of a pipeline; ``None`` where it has run or nobody provides it."""
    ran = view.pipelines.get(stage, "")
    if view.prequantized or name not in view.available["pass"] or name in ran:
        return None
    return f"{stage}={ran},{name}" if ran else f"{stage}={name}"


def scale_type(view: DiagnosisView, number: int) -> str | None:
    """Another scale type of the device; ``None`` where it is the present one or the device has it not."""
    rule = view.target.scale_rules.get(number)
    refused = number in view.target.refused_scale_types
    if view.prequantized or rule is None or refused or rule == view.rule:
        return None
    return f"{FIELDS['quantization_scale_type'].key}={number}"


def recalibrated() -> str:
    """For a network whose codes came with it: new ones from its dequantized weights and the frames."""
    return "recalibrate=data"


def _listed(field: str, view: DiagnosisView, name: str) -> str:
    """A list of names with one more, since setting an option replaces it."""
    names = [*getattr(view.options, field), name]
    return f"{FIELDS[field].key}={','.join(dict.fromkeys(names))}"
