"""ONNX messages to graphs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import inliner

from lowtide.errors import GraphError, ModelError, UnsupportedModelError
from lowtide.frontend import Frontend, ImportRequest
from lowtide.ir import (
    OPSET,
    AttributeValue,
    Constant,
    DType,
    Graph,
    Location,
    TensorType,
    Value,
    verify,
)
from lowtide.ir.schema import schema
from lowtide.ir.shapes import infer_types
from lowtide.passes import PassContext
from lowtide_plugins.frontends.onnx_format.operators import expand, is_expanded
from lowtide_plugins.frontends.onnx_format.tensors import read_tensor, unsupported_type
from lowtide_plugins.frontends.onnx_format.upgrade import DEFAULT_DOMAINS, upgrade
from lowtide_plugins.passes.quantization import FoldQdq

OTHER_FLOATS = frozenset({DType.FLOAT16, DType.FLOAT64})
"""Float types of files that become float32."""


@attrs.frozen
class OnnxFrontend(Frontend):
    """Reads ``.onnx`` files; external data stays where it is until somebody asks for it."""

    def load(self, path: Path, request: ImportRequest) -> Graph:
        """See `Frontend.load`."""
        model = _parse(path)
        try:
            return import_model(model, request, name=path.name, folder=path.parent)
        except ModelError as error:
            if not error.place.startswith(str(path)):
                error.place = f"{path}: {error.place}" if error.place else str(path)
            raise


def import_model(model: onnx.ModelProto, request: ImportRequest, *, name: str, folder: Path) -> Graph:
    """Make a graph from a message; `folder` is where external data lies.

    Raises:
        ModelError: when the message is no valid model.
        UnsupportedModelError: naming the node that cannot be taken.
    """
    _check_model(model)
    if model.functions:
        model = inliner.inline_local_functions(model)
    _check_nodes(model.graph.node)
    model = upgrade(model)
    expand(model.graph)
    return _Importer(model.graph, request, name, folder).graph()


def _parse(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
    except DecodeError as error:
        raise ModelError(
            f"is no ONNX model: {error}", place=str(path), hint="is the file complete?"
        ) from error
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", place=str(path)) from error
    if not model.opset_import or not model.HasField("graph"):
        raise ModelError("is no ONNX model: it has no graph or no opset", place=str(path))
    return model


def _check_model(model: onnx.ModelProto) -> None:
    graph = model.graph
    if not graph.node:
        raise ModelError("the model has no nodes")
    if graph.sparse_initializer:
        raise UnsupportedModelError(
            "sparse weights are not supported", place=graph.sparse_initializer[0].values.name
        )
    _check_text(graph)
    made: set[str] = set()
    for name in [name for node in graph.node for name in node.output if name]:
        if name in made:
            raise ModelError("two nodes make this tensor", place=name)
        made.add(name)
    known = made | {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        for name in node.input:
            if name and name not in known:
                raise ModelError(f"{_place(node)} reads {name!r}, which nothing makes")
    outputs: set[str] = set()
    for output in graph.output:
        if output.name not in known:
            raise ModelError("nothing makes this output", place=output.name)
        if output.name in outputs:
            raise ModelError("two outputs have this name", place=output.name, hint="list it once")
        outputs.add(output.name)


def _check_text(graph: onnx.GraphProto) -> None:
    """Names that are no UTF-8 come out of the parser as bytes."""
    texts: list[object] = [value.name for value in (*graph.input, *graph.output)]
    texts += [tensor.name for tensor in graph.initializer]
    for node in graph.node:
        texts += [node.op_type, node.domain, node.name, *node.input, *node.output]
        texts += [attribute.name for attribute in node.attribute]
    wrong = next((text for text in texts if isinstance(text, bytes)), None)
    if wrong is not None:
        raise ModelError(f"expected a name in UTF-8, found {wrong!r}", hint="is the file damaged?")


def _check_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        if node.domain not in DEFAULT_DOMAINS and not is_expanded(node):
            raise UnsupportedModelError(
                f"the operator {node.op_type} of the domain {node.domain!r} is not supported",
                place=_place(node),
                hint="export the model with operators of the default ONNX domain",
            )
        for attribute in node.attribute:
            if attribute.type in {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS}:
                raise UnsupportedModelError(
                    f"control flow ({node.op_type}) is not supported",
                    place=_place(node),
                    hint="export the model with fixed shapes, or unroll it",
                )


def _place(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name or (node.output[0] if node.output else '?')}"


class _Importer:
    def __init__(self, proto: onnx.GraphProto, request: ImportRequest, name: str, folder: Path) -> None:
        self.proto = proto
        self.request = request
        self.name = name
        self.folder = folder
        self.made = Graph(proto.name or Path(name).stem)
        self.values: dict[str, Value] = {}
        self.names: set[str] = set()

    def graph(self) -> Graph:
        try:
            self.inputs()
            for tensor in self.proto.initializer:
                self.initializer(tensor)
            for node in _ordered(self.proto.node, self.values):
                self.node(node)
            self.made.set_outputs(self.output(value.name) for value in self.proto.output)
            self.made.prune()
            infer_types(self.made)
            self.check_types()
            FoldQdq().run(self.made, PassContext(diagnostics=self.request.diagnostics))
            infer_types(self.made)
            verify(self.made)
        except GraphError as error:
            raise ModelError(error.message, place=error.place, hint=error.hint) from error
        return self.made

    def inputs(self) -> None:
        constants = {tensor.name for tensor in self.proto.initializer}
        wanted = dict(self.request.input_shapes)
        for value in self.proto.input:
            if value.name in constants:
                continue  # old files list weights as inputs with defaults
            self.values[value.name] = self.made.add_input(value.name, self.input_type(value, wanted))
        for name in wanted:
            raise ModelError("input_shapes names an input that the model has not", place=name)

    def input_type(self, value: onnx.ValueInfoProto, wanted: dict[str, tuple[int, ...]]) -> TensorType:
        if not value.type.HasField("tensor_type"):
            raise UnsupportedModelError("sequences, maps and optionals are not supported", place=value.name)
        tensor = value.type.tensor_type
        dtype = _dtype(tensor.elem_type, f"input {value.name}")
        if dtype in OTHER_FLOATS:
            self.request.diagnostics.info("LT452", value.name, f"{dtype} becomes float32")
            dtype = DType.FLOAT32
        given = wanted.pop(value.name, None)
        dims = [dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim]
        if given is not None:
            if len(given) != len(dims) or any(d not in (None, g) for d, g in zip(dims, given, strict=True)):
                raise ModelError(f"the shape {list(given)} does not fit {dims}", place=f"input {value.name}")
            return TensorType(dtype, given)
        if not tensor.HasField("shape") or None in dims[1:]:
            open_ = "x".join(str(dim or "?") for dim in dims)
            raise UnsupportedModelError(
                f"the shape {open_} leaves dimensions open" if dims else "no shape is given",
                place=f"input {value.name}",
                hint=f"as --set input_shapes.{value.name}={_example(dims)}",
            )
        if dims and dims[0] is None:
            self.request.diagnostics.info("LT451", value.name, "the batch size is open and becomes 1")
            dims[0] = 1
        return TensorType(dtype, dims)

    def initializer(self, tensor: onnx.TensorProto) -> None:
        if tensor.name in self.values:
            raise ModelError("two tensors have this name", place=tensor.name)
        self.constant(tensor.name, read_tensor(tensor, self.folder))

    def constant(self, name: str, constant: Constant) -> None:
        self.values[name] = self.made.add_constant(name, _single(constant))

    def node(self, node: onnx.NodeProto) -> None:
        attributes = {entry.name: self.attribute(node, entry) for entry in node.attribute}
        if node.op_type == "Constant":
            self.constant(node.output[0], _constant(node, attributes))
            return
        found = schema(node.op_type)
        if found is None:
            raise UnsupportedModelError(f"ONNX has no operator {node.op_type}", place=_place(node))
        if node.op_type == "Cast" and attributes.get("to") in {float_.onnx for float_ in OTHER_FLOATS}:
            attributes["to"] = onnx.TensorProto.FLOAT
        outputs = list(node.output)
        while outputs and not outputs[-1]:
            outputs.pop()
        results = [
            (name or self.made.fresh_name(f"{outputs[0]}_unused"), TensorType(DType.FLOAT32, None))
            for name in outputs
        ]
        inputs = [self.values[name] if name else None for name in node.input]
        while inputs and inputs[-1] is None:
            inputs.pop()
        own = node.name or outputs[0]
        location = Location(self.name, (own,), tuple(name for name in outputs if name))
        made = self.made.add_node(
            node.op_type, inputs, results, attributes, name=self.unique(own), location=location
        )
        self.values.update({value.name: value for value in made.outputs})

    def unique(self, name: str) -> str:
        chosen, number = name, 0
        while chosen in self.names:
            number += 1
            chosen = f"{name}_{number}"
        self.names.add(chosen)
        return chosen

    def attribute(self, node: onnx.NodeProto, entry: onnx.AttributeProto) -> AttributeValue:
        value = onnx.helper.get_attribute_value(entry)
        match value:
            case onnx.TensorProto():
                return _single(read_tensor(value, self.folder))
            case bytes():
                return value.decode("utf-8", "replace")
            case bool() | int() | float() | str():
                return value
            case list() | tuple():
                return _listed(cast(Sequence[Any], value))
            case _:
                raise UnsupportedModelError(
                    f"the attribute {entry.name} holds {type(value).__name__}", place=_place(node)
                )

    def output(self, name: str) -> Value:
        value = self.values[name]
        if value.producer is None:
            raise UnsupportedModelError(
                f"the output {name!r} is an input or a constant of the network: nothing computes it",
                place=name,
                hint="leave it out of the outputs when you export the model",
            )
        return value

    def check_types(self) -> None:
        """Operators of later opsets take more element types than those of `OPSET`.

        Raises:
            UnsupportedModelError: naming a node whose operand has such a type.
        """
        for node in self.made:
            found = schema(node.op)
            for operand, value in zip(found.inputs if found else (), node.inputs, strict=False):
                if value is not None and f"tensor({_onnx_name(value.type.dtype)})" not in operand.types:
                    raise UnsupportedModelError(
                        f"{node.op} takes no {value.type.dtype} at opset {OPSET}", place=node.place
                    )


def _listed(value: Sequence[Any]) -> AttributeValue:
    return tuple(part.decode("utf-8", "replace") if isinstance(part, bytes) else part for part in value)


def _ordered(nodes: Iterable[onnx.NodeProto], values: Mapping[str, Value]) -> list[onnx.NodeProto]:
    """Nodes in executable order; files are allowed to have another one only by mistake, and some do."""
    known = set(values)
    waiting = list(nodes)
    ordered: list[onnx.NodeProto] = []
    while waiting:
        ready = [node for node in waiting if all(not name or name in known for name in node.input)]
        if not ready:
            raise ModelError("the node depends on its own result", place=_place(waiting[0]))
        if len(ready) == len(waiting) or ready[0] is waiting[0]:
            ready = [waiting[0]] if ready[0] is waiting[0] else ready
        for node in ready:
            ordered.append(node)
            known.update(node.output)
            waiting.remove(node)
    return ordered


_ONNX_NAMES = {DType.FLOAT32: "float", DType.FLOAT64: "double"}


def _onnx_name(dtype: DType) -> str:
    return _ONNX_NAMES.get(dtype, dtype.value)


def _single(constant: Constant) -> Constant:
    """The graph has one float type; integers stay as they are."""
    return Constant.of(constant.array().astype(np.float32)) if constant.dtype in OTHER_FLOATS else constant


def _example(dims: Sequence[int | None]) -> str:
    """A shape that could be meant: a picture, where there are four axes."""
    usual = (1, 3, 224, 224) if len(dims) in {0, 4} else (1, *(16,) * (len(dims) - 1))
    return "x".join(str(dim or guess) for dim, guess in zip(dims or usual, usual, strict=True))


def _dtype(number: int, place: str) -> DType:
    try:
        return DType.from_onnx(number)
    except (ValueError, KeyError) as error:
        raise unsupported_type(number, place) from error


def _constant(node: onnx.NodeProto, attributes: Mapping[str, AttributeValue]) -> Constant:
    for name, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in attributes:
            return Constant.of(np.array(attributes[name], dtype))
    value = attributes.get("value")
    if not isinstance(value, Constant):
        raise UnsupportedModelError("text and sparse constants are not supported", place=_place(node))
    return value
