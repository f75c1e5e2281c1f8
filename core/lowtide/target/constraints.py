"""Which conditions of the device a node fails."""

from __future__ import annotations

from lowtide.ir import Node
from lowtide.target.expressions import Expression, compile_expression
from lowtide.target.facts import FACT_KINDS, node_facts
from lowtide.target.model import Constraint, Target


def compile_constraint(constraint: Constraint, place: str) -> Expression:
    """Check the expression of a constraint.

    Raises:
        TargetError: when it is no valid condition over the facts.
    """
    return compile_expression(constraint.require, FACT_KINDS, place)


def check_node(target: Target, node: Node, bits: int, *, layer_size: int = 1) -> tuple[Constraint, ...]:
    """The constraints that a node of a supported operator fails, in the order of the description.

    Args:
        target: the device.
        node: a node whose operator the device has; any other fails nothing here.
        bits: the width of its tensors. Constraints for other widths are not looked at.
        layer_size: how many nodes the fused layer has that it belongs to.
    """
    rule = target.operators.get(node.op)
    if rule is None:
        return ()
    facts = node_facts(node, layer_size=layer_size)
    return tuple(
        constraint
        for number, constraint in enumerate(rule.constraints)
        if (not constraint.bits or bits in constraint.bits)
        and not compile_constraint(constraint, constraint_place(target.name, node.op, number)).holds(facts)
    )


def constraint_place(target: str, op: str, number: int) -> str:
    """How messages call the expression of a constraint."""
    return f"target {target}: operators.{op}.constraints[{number}].require"
