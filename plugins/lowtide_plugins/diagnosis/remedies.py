"""Options that help, as ``key=value``; each can be set as it stands for this network on this device."""

from __future__ import annotations

from lowtide.diagnosis import DiagnosisView
from lowtide.options import FIELDS
from lowtide.precision import LayerNames, PrecisionClass, precision_classes
from lowtide.target import check_node

WIDE = 16
HEEDING = frozenset({"manual", None})
"""Strategies that heed the lists of 16-bit layers."""


def wider_output(view: DiagnosisView, layer: str) -> str:
    """16 bits for the output of a layer and all that share its width; the host where the device has none."""
    if view.prequantized:
        return recalibrated()
    group = _class_of(view, view.layers[layer].output.name)
    if group is None or not _may_be_wide(view, frozenset(group.tensors)):
        return _denied(view, layer)
    known = LayerNames.of(view.graph).of_class(group)
    return _listed("output_feature_16bit_names_list", view, layer if layer in known else known[0])


def wider_parameters(view: DiagnosisView, layer: str) -> str:
    """16 bits for the weights of a layer; the host where the device has none."""
    if view.prequantized:
        return recalibrated()
    if WIDE not in view.target.bits or view.options.strategy not in HEEDING:
        return _denied(view, layer)
    known = LayerNames.of(view.graph).of_parameters(view.layers[layer])
    return _listed("params_16bit_names_list", view, known)


def _class_of(view: DiagnosisView, tensor: str) -> PrecisionClass | None:
    groups = precision_classes(view.graph, view.target, view.placement)
    return next((group for group in groups if tensor in group.tensors), None)


def _may_be_wide(view: DiagnosisView, members: frozenset[str]) -> bool:
    """Whether every layer at these tensors exists with 16 bits."""
    if WIDE not in view.target.bits or view.options.strategy not in HEEDING:
        return False
    return not any(
        check_node(view.target, node, WIDE, layer_size=len(layer.nodes))
        for layer in view.layers.values()
        if view.placement.on_accelerator(layer.name)
        and any(value.name in members for value in (*layer.inputs, *layer.outputs))
        for node in layer.nodes
    )


def calibrator(view: DiagnosisView, name: str) -> str | None:
    """Another calibrator; ``None`` where it is in use, nobody provides it, or no range comes from frames."""
    used = view.calibrator.partition("{")[0] == name
    return (
        None
        if used or view.prequantized or name not in view.available["calibrator"]
        else f"calibrator={name}"
    )


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


def _denied(view: DiagnosisView, layer: str) -> str:
    return _listed("deny_list_layer_name", view, layer)


def _listed(field: str, view: DiagnosisView, name: str) -> str:
    """A list of names with one more, since setting an option replaces it."""
    names = [*getattr(view.options, field), name]
    return f"{FIELDS[field].key}={','.join(dict.fromkeys(names))}"
