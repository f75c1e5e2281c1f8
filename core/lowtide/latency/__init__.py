"""Latency: what a layer has to do, what that costs on a device, and the table for a whole network."""

from __future__ import annotations

from lowtide.latency.api import Bound, LatencyModel, LatencyProblem, LatencyTable, LayerCost
from lowtide.latency.costs import ModelCosts
from lowtide.latency.estimate import estimate, latency_model
from lowtide.latency.widths import plan_of_codes, uniform_plan
from lowtide.latency.work import LayerWork, MatrixWork, TensorWork, layer_works, work_shares

__all__ = [
    "Bound",
    "LatencyModel",
    "LatencyProblem",
    "LatencyTable",
    "LayerCost",
    "LayerWork",
    "MatrixWork",
    "ModelCosts",
    "TensorWork",
    "estimate",
    "latency_model",
    "layer_works",
    "plan_of_codes",
    "uniform_plan",
    "work_shares",
]
