"""The latency of a network that is compiled, is about to be, or was."""

from __future__ import annotations

from typing import Any

import attrs

from lowtide.compiler.floats import read_encodings
from lowtide.compiler.output import SavedOutput
from lowtide.compiler.request import CompileRequest
from lowtide.compiler.stages import Compilation
from lowtide.compiler.widths import ask, foresee
from lowtide.errors import OptionError
from lowtide.ir import Graph
from lowtide.latency import LatencyTable, estimate, plan_of_codes, uniform_plan
from lowtide.options import FLOAT_BITS
from lowtide.plugin import Registry
from lowtide.precision import PrecisionPlan
from lowtide.target import Assignment, Placement, Target, load_target, place


@attrs.frozen(kw_only=True)
class Estimate:
    """What a network takes on a device, with the widths that this holds for.

    Attributes:
        budget_ms: what the options let it take; ``None`` where they say nothing.
        left_open: what only a compile with calibration data decides, in words; empty where nothing is.
    """

    graph: Graph
    target: Target
    placement: Placement
    plan: PrecisionPlan
    table: LatencyTable
    budget_ms: float | None = None
    left_open: str = ""


def estimate_codes(c: Compilation) -> LatencyTable | None:
    """The latency of a compilation with the codes that its graph has, 8 bits where it has none yet.

    Returns:
        ``None`` where the device has no latency model, or the network stays float.

    Raises:
        UnknownNameError: when nobody provides the latency model that the device names.
        TargetError: when its options are not those of the model.
    """
    if c.target.latency is None or c.is_float:
        return None
    plan = plan_of_codes(c.graph, c.target, c.placement)
    return estimate(c.graph, c.target, c.placement, plan, c.request.registry)


def estimate_model(request: CompileRequest, bits: int | None = None) -> Estimate:
    """The latency of a model that is not compiled yet, without data.

    Args:
        request: what a compile would be asked for.
        bits: one width for everything; by default the codes of a quantized model, and for a float one what
            the precision strategy of the options says, as far as it needs no data.

    Raises:
        LowtideError: for whatever stops a compile before calibration.
        UnsupportedByTargetError: when the device has no latency model.
        OptionError: when the device does not have the width.
    """
    c = Compilation.begin(request)
    if bits is not None and bits not in c.target.bits:
        raise OptionError(f"{c.target.name} has {c.target.bits} bits, found {bits}", place="--bits")
    c.import_model()
    c.prepare()
    c.placement = place(c.graph, c.target, c.options, c.diagnostics)
    if bits is not None:
        plan = uniform_plan(c.graph, c.target, c.placement, bits)
    elif c.prequantized:
        plan = plan_of_codes(c.graph, c.target, c.placement)
    elif c.is_float:
        raise _no_latency("set tensor_bits to 8 or 16, or give --bits")
    else:
        c.encodings = read_encodings(c)
        problem = ask(c)
        plan, left_open = foresee(c, problem)
        found = _estimate(c.graph, c.target, c.placement, plan, request.registry)
        budget_ms = None if problem.budget is None else problem.budget.ms
        return attrs.evolve(found, budget_ms=budget_ms, left_open=left_open)
    return _estimate(c.graph, c.target, c.placement, plan, request.registry)


def estimate_output(saved: SavedOutput, registry: Registry, target: str | None = None) -> Estimate:
    """The latency of an output folder, with the widths of its codes and where its layers were placed.

    Args:
        saved: the folder.
        registry: provides device and model.
        target: another device than that of the compile, for the same placement.

    Raises:
        UnknownNameError: when nobody provides the device any more.
        UnsupportedByTargetError: when it has no latency model.
        OptionError: when the network was left in float.
    """
    if saved.manifest["options"].get("tensor_bits") == str(FLOAT_BITS):
        raise _no_latency("compile with tensor_bits 8 or 16")
    device = load_target(target or str(saved.report["device"]["name"]), registry)
    placement = Placement(tuple(_assignment(layer) for layer in saved.report["layers"]))
    plan = plan_of_codes(saved.graph, device, placement)
    return _estimate(saved.graph, device, placement, plan, registry)


def _no_latency(hint: str) -> OptionError:
    return OptionError("a float network has no latency on the accelerator", place="tensor_bits", hint=hint)


def _estimate(
    graph: Graph, target: Target, placement: Placement, plan: PrecisionPlan, registry: Registry
) -> Estimate:
    table = estimate(graph, target, placement, plan, registry)
    return Estimate(graph=graph, target=target, placement=placement, plan=plan, table=table)


def _assignment(layer: Any) -> Assignment:
    """Where a layer runs, as the report has it."""
    return Assignment(
        layer=str(layer["name"]),
        op=str(layer["operator"]).partition("+")[0],
        device="host" if layer["placement"] == "host" else "accelerator",
        reason=str(layer["reason"]),
        subgraph=layer["subgraph"],
    )
