"""Devices: what they can do, as data, and which layers of a network they take."""

from __future__ import annotations

from lowtide.target.constraints import check_node
from lowtide.target.facts import FACTS, node_facts
from lowtide.target.load import TargetListing, list_targets, load_target, scale_rule
from lowtide.target.model import (
    BiasFormat,
    Constraint,
    LatencyData,
    OperatorKind,
    OperatorRule,
    ScaleRule,
    Target,
)
from lowtide.target.place import Assignment, Placement, PlacementOptions, layer_names, place

__all__ = [
    "FACTS",
    "Assignment",
    "BiasFormat",
    "Constraint",
    "LatencyData",
    "OperatorKind",
    "OperatorRule",
    "Placement",
    "PlacementOptions",
    "ScaleRule",
    "Target",
    "TargetListing",
    "check_node",
    "layer_names",
    "list_targets",
    "load_target",
    "node_facts",
    "place",
    "scale_rule",
]
