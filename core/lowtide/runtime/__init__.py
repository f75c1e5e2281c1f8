"""Execution of graphs on ONNX Runtime."""

from __future__ import annotations

from lowtide.runtime.model import dequantize, per_axis, to_model
from lowtide.runtime.save import save_model
from lowtide.runtime.session import WORKERS, Nothing, Runner, Session, in_flight

__all__ = [
    "WORKERS",
    "Nothing",
    "Runner",
    "Session",
    "dequantize",
    "in_flight",
    "per_axis",
    "save_model",
    "to_model",
]
