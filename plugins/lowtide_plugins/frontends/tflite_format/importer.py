"""TFLite files to graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from lowtide.errors import GraphError, ModelError, UnsupportedModelError
from lowtide.frontend import Frontend, ImportRequest
from lowtide.ir import DType, Graph, Location, TensorType, Value, verify
from lowtide.ir.shapes import infer_types
from lowtide_plugins.frontends.tflite_format import convolution, elementwise, movement, reduction
from lowtide_plugins.frontends.tflite_format.builder import Builder
from lowtide_plugins.frontends.tflite_format.reader import Operator, Tensor, TfliteModel, read_model

HANDLERS: Mapping[str, Callable[[Builder], None]] = {
    "CONV_2D": convolution.conv_2d,
    "DEPTHWISE_CONV_2D": convolution.depthwise_conv_2d,
    "TRANSPOSE_CONV": convolution.transpose_conv,
    "FULLY_CONNECTED": convolution.fully_connected,
    "BATCH_MATMUL": convolution.batch_matmul,
    "AVERAGE_POOL_2D": convolution.average_pool_2d,
    "MAX_POOL_2D": convolution.max_pool_2d,
    **elementwise.HANDLERS,
    **movement.HANDLERS,
    **reduction.HANDLERS,
}
"""What translates each operator; all others are refused by name."""

SCALE_TYPE = 3
"""The vendor's number for networks with the codes of TFLite."""

POST_PROCESSING = frozenset({"TFLite_Detection_PostProcess"})
"""Custom operators that may end a network: they stay on the host, and the network ends before them."""

_REASONS: Mapping[str, str] = {
    **dict.fromkeys(("CALL", "CALL_ONCE", "IF", "WHILE", "STABLEHLO_WHILE"), "control flow is not supported"),
    **dict.fromkeys(
        ("ASSIGN_VARIABLE", "READ_VARIABLE", "VAR_HANDLE", "HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT"),
        "variables that live between runs are not supported",
    ),
    **dict.fromkeys(
        (
            "BIDIRECTIONAL_SEQUENCE_LSTM",
            "BIDIRECTIONAL_SEQUENCE_RNN",
            "LSTM",
            "RNN",
            "SVDF",
            "UNIDIRECTIONAL_SEQUENCE_LSTM",
            "UNIDIRECTIONAL_SEQUENCE_RNN",
        ),
        "recurrent layers are not supported",
    ),
}


@attrs.frozen
class TfliteFrontend(Frontend):
    """Reads the main graph of ``.tflite`` files.

    Activations become `[N, C, H, W]`; the inputs and outputs of the network keep the layout of the file.
    Codes become types: a value with integer codes in the file is a float value with `QuantParams`. Inputs and
    outputs that are integers in the file stay so, with a DequantizeLinear or QuantizeLinear inside.
    """

    def load(self, path: Path, request: ImportRequest) -> Graph:
        """See `Frontend.load`."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot be read: {error.strerror}", place=str(path)) from error
        try:
            return import_model(read_model(data), request, name=path.name)
        except ModelError as error:
            error.place = f"{path}: {error.place}" if error.place else str(path)
            raise


def import_model(model: TfliteModel, request: ImportRequest, *, name: str) -> Graph:
    """Make a graph from the records of a file.

    Raises:
        ModelError: when they contradict each other.
        UnsupportedModelError: naming the operator that cannot be taken.
    """
    _check_inputs(model, request)
    graph = Graph(Path(name).stem)
    builder = Builder(model, name, request.diagnostics, graph, model.operators[0])
    try:
        for index in model.inputs:
            _input(builder, builder.tensor(index))
        outputs = _operators(builder)
        graph.set_outputs([_output(builder, index) for index in outputs])
        graph.prune()
        infer_types(graph)
        verify(graph)
    except GraphError as error:
        raise ModelError(error.message, place=error.place, hint=error.hint) from error
    if any(value.type.quant is not None and not value.is_constant for value in graph.values.values()):
        request.scale_type = SCALE_TYPE
    return graph


def _check_inputs(model: TfliteModel, request: ImportRequest) -> None:
    """All shapes are static in the file; the batch may be open and is 1 then."""
    wanted = dict(request.input_shapes)
    for index in model.inputs:
        if index < 0:
            raise ModelError("an input of the model is missing")
        tensor = model.tensors[index]
        given = wanted.pop(tensor.name, tensor.shape)
        if given != tensor.shape or any(tensor.open[1:]):
            raise UnsupportedModelError(
                f"the shape {_shown(tensor)} cannot become {list(given)}"
                if given != tensor.shape
                else f"the shape {_shown(tensor)} leaves dimensions open",
                place=f"input {tensor.name}",
                hint="convert the model again with this shape: the shapes of all its tensors depend on it",
            )
        if any(tensor.open):
            request.diagnostics.info("LT451", tensor.name, "the batch size is open and becomes 1")
    for name in wanted:
        raise ModelError("input_shapes names an input that the model has not", place=name)


def _shown(tensor: Tensor) -> list[int | None]:
    return [None if is_open else dim for dim, is_open in zip(tensor.shape, tensor.open, strict=True)]


def _input(b: Builder, tensor: Tensor) -> None:
    if tensor.variable:
        raise UnsupportedModelError("variables that live between runs are not supported", place=tensor.place)
    known = b.type_of(tensor.index, "file")
    if known.quant is None:
        b.values[tensor.index, "file"] = b.graph.add_input(tensor.name, known)
        return
    value = b.graph.add_input(tensor.name, TensorType(known.quant.dtype, known.shape))
    name = b.graph.fresh_name(f"{tensor.name}_dequantized")
    node = b.graph.add_node(
        "DequantizeLinear",
        [value, *_parameters(b, known, tensor.name)],
        [(name, known)],
        location=Location(b.file, (), (tensor.name,)),
    )
    b.values[tensor.index, "file"] = node.output


def _parameters(b: Builder, known: TensorType, name: str) -> list[Value]:
    assert known.quant is not None  # noqa: S101 - the callers check
    zero = b.constant(known.quant.dtype.numpy.type(known.quant.zero_point[0]), f"{name}_zero_point")
    return [b.constant(known.quant.scale[0], f"{name}_scale"), zero]


def _operators(b: Builder) -> tuple[int, ...]:
    """Translate all operators; returns what the network returns."""
    made = {index for index in b.model.inputs if index >= 0}
    outputs = b.model.outputs
    for operator in b.model.operators:
        b.operator = operator
        for index in operator.outputs:
            if index in made:
                raise ModelError(f"makes {b.tensor(index).name}, which is made already", place=operator.place)
            made.add(index)
        if operator.custom and operator.name in POST_PROCESSING and not _is_read(b, operator):
            outputs = _end_before(b, operator, outputs)
        else:
            _translate(b, operator)
    return outputs


def _is_read(b: Builder, operator: Operator) -> bool:
    made = set(operator.outputs)
    return any(made & set(other.inputs) for other in b.model.operators)


def _translate(b: Builder, operator: Operator) -> None:
    handler = None if operator.custom else HANDLERS.get(operator.name)
    if handler is None:
        kind = "custom operators are not supported" if operator.custom else "the operator is not supported"
        raise UnsupportedModelError(
            _REASONS.get(operator.name, kind),
            place=operator.place,
            hint="end the model before it and run the rest on the host",
        )
    if not operator.outputs:
        raise ModelError("an operator without result", place=operator.place)
    handler(b)


def _end_before(b: Builder, operator: Operator, outputs: tuple[int, ...]) -> tuple[int, ...]:
    """Return what the operator reads instead of what it makes."""
    inputs = tuple(index for index in operator.inputs if index >= 0 and not b.is_constant(index))
    names = ", ".join(b.tensor(index).name for index in inputs)
    b.diagnostics.info("LT453", operator.place, f"stays on the host: the network ends with {names}")
    return (*inputs, *(index for index in outputs if index not in operator.outputs))


def _output(b: Builder, index: int) -> Value:
    tensor = b.tensor(index)
    value = b.read(index)
    if value.producer is None:
        raise ModelError(
            "the output is an input or a constant", place=tensor.name, hint="there is nothing to compute"
        )
    if value.type.quant is not None:
        value = _codes(b, tensor, value)
    elif value.name != tensor.name and tensor.name in b.graph.values:
        b.graph.rename(b.graph.values[tensor.name], b.graph.fresh_name(f"{tensor.name}_nchw"))
    if value.name != tensor.name:
        b.graph.rename(value, tensor.name)
    return value


def _codes(b: Builder, tensor: Tensor, value: Value) -> Value:
    """The codes of a quantized result; they take its name, since that is what a run returns."""
    known = value.type
    assert known.quant is not None  # noqa: S101 - the caller checks
    if tensor.name in b.graph.values:
        b.graph.rename(b.graph.values[tensor.name], b.graph.fresh_name(f"{tensor.name}_dequantized"))
    node = b.graph.add_node(
        "QuantizeLinear",
        [value, *_parameters(b, known, tensor.name)],
        [(tensor.name, TensorType(DType(known.quant.dtype), known.shape))],
        location=Location(b.file, (), (tensor.name,)),
    )
    return node.output
