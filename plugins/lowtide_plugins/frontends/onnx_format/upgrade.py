"""Models of any opset to the one of graphs in memory.

Older models go through ONNX's own converter, on a copy that shows only small constants. Newer ones are taken
as they are, node by node, where the definition of the operator is still the same.
"""

from __future__ import annotations

import onnx
from onnx import version_converter
from onnx.defs import OpSchema

from lowtide.errors import ModelError, UnsupportedModelError
from lowtide.ir.schema import OPSET, schema

DEFAULT_DOMAINS = frozenset({"", "ai.onnx"})
OLDEST = 7
LAST_ASYMMETRIC_RESIZE = 10
"""Up to this opset, Resize mapped coordinates by x / scale and rounded down."""

BIG = 4096
"""Bytes above which a constant is hidden from the converter, which copies what it sees."""


def upgrade(model: onnx.ModelProto) -> onnx.ModelProto:
    """Bring a model to `OPSET`.

    Raises:
        UnsupportedModelError: for opsets that are too old, and nodes whose definition changed later.
        ModelError: when the converter fails.
    """
    version = next((entry.version for entry in model.opset_import if entry.domain in DEFAULT_DOMAINS), None)
    if version is None:
        raise ModelError("the model does not say its opset")
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= version <= newest:
        raise UnsupportedModelError(
            f"opset {version}, expected {OLDEST} to {newest}",
            place="opset_import",
            hint="convert the model with onnx.version_converter",
        )
    for node in model.graph.node:
        if node.domain in DEFAULT_DOMAINS and not onnx.defs.has(node.op_type, version, ""):
            raise UnsupportedModelError(
                f"ONNX has no operator {node.op_type} at opset {version}",
                place=f"{node.op_type} {node.name or node.output[0]}",
            )
    if version == OPSET:
        return model
    if version > OPSET:
        for node in model.graph.node:
            if node.domain in DEFAULT_DOMAINS:
                _check_same(node, version)
        return model
    return _convert(model, version)


def _check_same(node: onnx.NodeProto, version: int) -> None:
    place = f"{node.op_type} {node.name or node.output[0]}"
    older = schema(node.op_type)
    if older is None:
        raise UnsupportedModelError(
            f"{node.op_type} is newer than opset {OPSET}", place=place, hint=f"export with opset {OPSET}"
        )
    newer = onnx.defs.get_schema(node.op_type, version, "")
    if newer.since_version == older.since_version:
        return
    for attribute in node.attribute:
        if attribute.name not in older.attributes:
            raise _changed(node, place, f"its attribute {attribute.name}")
    if _operands(newer)[: len(older.inputs)] != _operands(older) or len(node.input) > older.max_input:
        raise _changed(node, place, "its operands")


def _operands(found: OpSchema) -> list[str]:
    return [operand.name for operand in found.inputs]


def _changed(node: onnx.NodeProto, place: str, what: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{node.op_type} changed after opset {OPSET}: {what}", place=place, hint=f"export with opset {OPSET}"
    )


def _convert(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    originals = {tensor.name: tensor for tensor in model.graph.initializer}
    hidden = [name for name, tensor in originals.items() if _is_big(tensor)]
    light = onnx.ModelProto()
    light.CopyFrom(model)
    del light.graph.initializer[:]
    light.graph.initializer.extend(tensor for tensor in originals.values() if not _is_big(tensor))
    listed = {value.name for value in light.graph.input}
    for name in hidden:
        if name not in listed:
            tensor = originals[name]
            info = onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
            light.graph.input.append(info)
    light.ir_version = max(light.ir_version, 4)
    try:
        converted = version_converter.convert_version(light, OPSET)
    except Exception as error:
        raise ModelError(
            f"ONNX cannot convert the model from opset {version} to {OPSET}: {error}",
            hint="export the model again with a newer opset",
        ) from error
    converted.graph.initializer.extend(originals[name] for name in hidden)
    if version <= LAST_ASYMMETRIC_RESIZE:
        _keep_resize(converted.graph)
    return converted


def _keep_resize(graph: onnx.GraphProto) -> None:
    """Say what Upsample and Resize meant before they could say it: the converter leaves later defaults."""
    meant = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    for node in graph.node:
        if node.op_type == "Resize":
            given = {attribute.name for attribute in node.attribute}
            for name in sorted(meant.keys() - given):
                node.attribute.append(onnx.helper.make_attribute(name, meant[name]))


def _is_big(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.ByteSize() > BIG
