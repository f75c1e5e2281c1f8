"""Graphs to ONNX files."""

from __future__ import annotations

from pathlib import Path

from onnx.external_data_helper import convert_model_to_external_data, write_external_data_tensors

from lowtide.ir import Graph
from lowtide.runtime.model import to_model

EXTERNAL_LIMIT = 1_500_000_000
"""Bytes of constants above which they go to a file of their own: a protobuf message ends at 2 GiB."""


def save_model(graph: Graph, path: Path, *, quantized: bool, description: str = "") -> tuple[str, ...]:
    """Write a graph as ONNX; see `lowtide.runtime.to_model`.

    Args:
        graph: what to write.
        path: where to.
        quantized: with Q/DQ pairs.
        description: a sentence about the model, which viewers show.

    Returns:
        The names of the files, that of the data last where there is one.
    """
    model = to_model(graph, quantized=quantized)
    model.doc_string = description
    # Real numbers may take four times the bytes of the codes they come from, so the model itself is asked.
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if size <= EXTERNAL_LIMIT:
        path.write_bytes(model.SerializeToString(deterministic=True))
        return (path.name,)
    data = f"{path.name}.data"
    path.with_name(data).unlink(missing_ok=True)  # onnx would write behind what an older model left there
    convert_model_to_external_data(model, location=data)
    write_external_data_tensors(model, str(path.parent))
    path.write_bytes(model.SerializeToString(deterministic=True))
    return (path.name, data)
