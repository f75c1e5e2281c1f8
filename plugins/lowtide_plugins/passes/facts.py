"""What is known about the numbers in a tensor without running the network."""

from __future__ import annotations

import math

import numpy as np

from lowtide.ir import Node, Value
from lowtide_plugins.passes.rewrite import array_of, number_of

NONNEGATIVE = frozenset(
    {"Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Softplus", "Sqrt", "ThresholdedRelu"}
)
"""Operators that give no negative number, whatever they read (ThresholdedRelu only with alpha >= 0)."""

MOVING = frozenset(
    {
        "AveragePool",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Identity",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators whose results lie within the range of their first operand, or are zeros."""

GIVEN = {"HardSigmoid": (0.0, 1.0), "Sigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Tanh": (-1.0, 1.0)}
"""Operators whose results lie between two numbers, whatever they read."""

LARGEST = float(np.finfo(np.float32).max)
"""The largest float32."""

DEPTH = 8
"""How many nodes are looked at on the way back; more would cost time and hardly ever tell more."""


def reach(value: Value) -> tuple[float, float]:
    """Between which numbers a tensor lies by what makes it alone; infinite where nothing is known."""
    maker = value.producer
    if maker is None:
        return -math.inf, math.inf
    return GIVEN.get(maker.op) or bounds(maker) or (-math.inf, math.inf)


def bounds(node: Node) -> tuple[float, float] | None:
    """The limits of a Relu, Clip, Max or Min with constant numbers, ``None`` for any other node."""
    if node.op == "Relu":
        return 0.0, math.inf
    if node.op == "Clip":
        low = -math.inf if node.operand(1) is None else number_of(node.operand(1))
        high = math.inf if node.operand(2) is None else number_of(node.operand(2))
        if low is None or high is None:
            return None
        # Exporters write "no limit" as the largest number there is.
        return -math.inf if low <= -LARGEST else low, math.inf if high >= LARGEST else high
    if node.op in {"Max", "Min"} and len(node.inputs) == 2:
        found = number_of(node.operand(1 - clamped_operand(node)))
        if found is None:
            return None
        return (found, math.inf) if node.op == "Max" else (-math.inf, found)
    return None


def clamped_operand(node: Node) -> int:
    """Which operand of a clamping node is not its limit."""
    constant_first = node.op in {"Max", "Min"} and array_of(node.operand(0)) is not None
    return 1 if constant_first else 0


def is_nonnegative(value: Value, depth: int = DEPTH) -> bool:
    """Whether no element can be below zero; ``False`` when that is not known."""
    data = array_of(value)
    if data is not None:
        return bool((data >= 0).all())
    node = value.producer
    if node is None or depth == 0:
        return False
    if node.op == "ThresholdedRelu":
        return node.float_attribute("alpha", 1.0) >= 0
    if node.op in NONNEGATIVE:
        return True
    limits = bounds(node)
    if limits is not None:
        return limits[0] >= 0 or (node.op == "Min" and limits[1] >= 0 and _operand_is(node, depth))
    if node.op in MOVING or (node.op == "MaxPool" and value is node.output):
        return is_nonnegative(node.value(0), depth - 1)
    if node.op in {"Add", "Concat", "Mul"}:
        return all(entry is not None and is_nonnegative(entry, depth // 2) for entry in node.inputs)
    return False


def _operand_is(node: Node, depth: int) -> bool:
    return is_nonnegative(node.value(clamped_operand(node)), depth - 1)
