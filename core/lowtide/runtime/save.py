"""Graphs to ONNX files."""

from __future__ import annotations

from pathlib import Path

import onnx

from lowtide.ir import Graph
from lowtide.runtime.model import to_model

EXTERNAL_LIMIT = 1_500_000_000
"""Bytes of constants above which they go to a file of their own: a protobuf message ends at 2 GiB."""


def save_model(graph: Graph, path: Path, *, quantized: bool) -> tuple[str, ...]:
    """Write a graph as ONNX; see `lowtide.runtime.to_model`.

    Returns:
        The names of the files, that of the data last where there is one.
    """
    model = to_model(graph, quantized=quantized)
    size = sum(value.constant.nbytes for value in graph.constants if value.constant)
    if size <= EXTERNAL_LIMIT:
        path.write_bytes(model.SerializeToString(deterministic=True))
        return (path.name,)
    data = f"{path.name}.data"
    onnx.save_model(model, path, save_as_external_data=True, location=data)
    return (path.name, data)
