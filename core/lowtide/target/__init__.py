"""Devices: what they can do, as data, and which layers of a network they take."""

from __future__ import annotations

from lowtide.target.borders import Border, borders
from lowtide.target.constraints import check_node
from lowtide.target.facts import FACTS, node_facts
from lowtide.target.load import TargetListing, find_target, list_targets, load_target, scale_rule
from lowtide.target.model import (
    BiasFormat,
    Constraint,
    LatencyData,
    OperatorKind,
    OperatorRule,
    Rung,
    ScaleRule,
    Target,
    TuneData,
)
from lowtide.target.place import (
    Assignment,
    Placement,
    PlacementOptions,
    decoding,
    detection_head,
    layer_names,
    place,
    subgraph_limit,
)
from lowtide.target.tails import Head, heads

__all__ = [
    "FACTS",
    "Assignment",
    "BiasFormat",
    "Border",
    "Constraint",
    "Head",
    "LatencyData",
    "OperatorKind",
    "OperatorRule",
    "Placement",
    "PlacementOptions",
    "Rung",
    "ScaleRule",
    "Target",
    "TargetListing",
    "TuneData",
    "borders",
    "check_node",
    "decoding",
    "detection_head",
    "find_target",
    "heads",
    "layer_names",
    "list_targets",
    "load_target",
    "node_facts",
    "place",
    "scale_rule",
    "subgraph_limit",
]
