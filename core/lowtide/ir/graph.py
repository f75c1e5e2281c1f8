"""The graph: values, the nodes that make them, and one mutator per invariant.

Operators are those of ONNX's default domain at `lowtide.ir.schema.OPSET`: names, attributes and meaning,
channels first. Nodes and values are compared by identity; types, attributes and constants by value.
"""
# The graph alone keeps the invariants of its values and nodes, so their fields are its own.
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from lowtide.errors import GraphError
from lowtide.ir.constant import Constant
from lowtide.ir.node import AttributeValue, Location, Node, Use, Value, as_attribute
from lowtide.ir.order import executable_order, reaching
from lowtide.ir.types import TensorType

__all__ = ["AttributeValue", "Graph", "Location", "Node", "Use", "Value"]


class Graph:
    """A network: nodes in an order in which they can be executed, and the values between them."""

    def __init__(self, name: str = "graph") -> None:
        self.name = name
        self._nodes: list[Node] = []
        self._values: dict[str, Value] = {}
        self._inputs: list[Value] = []
        self._outputs: list[Value] = []

    # --- reading ---

    @property
    def nodes(self) -> tuple[Node, ...]:
        """In executable order."""
        return tuple(self._nodes)

    @property
    def inputs(self) -> tuple[Value, ...]:
        """What a run is fed."""
        return tuple(self._inputs)

    @property
    def outputs(self) -> tuple[Value, ...]:
        """What a run returns."""
        return tuple(self._outputs)

    @property
    def values(self) -> Mapping[str, Value]:
        """Every value by name."""
        return MappingProxyType(self._values)

    @property
    def constants(self) -> tuple[Value, ...]:
        """Every constant."""
        return tuple(value for value in self._values.values() if value.is_constant)

    def is_output(self, value: Value) -> bool:
        """Whether a run returns the value."""
        return any(value is output for output in self._outputs)

    def __iter__(self) -> Iterator[Node]:
        return iter(tuple(self._nodes))

    def __len__(self) -> int:
        return len(self._nodes)

    # --- building ---

    def fresh_name(self, base: str) -> str:
        """`base`, or `base` with a number when the graph has a value of that name."""
        if base not in self._values:
            return base
        number = 1
        while f"{base}_{number}" in self._values:
            number += 1
        return f"{base}_{number}"

    def add_input(self, name: str, type: TensorType) -> Value:  # noqa: A002 - the word of the domain
        """Add an input.

        Raises:
            GraphError: when the name is taken.
        """
        value = self._register(Value(name, type))
        self._inputs.append(value)
        return value

    def add_constant(self, name: str, constant: Constant, type: TensorType | None = None) -> Value:  # noqa: A002
        """Add a constant; `type` is needed when the data are codes of a quantized value.

        Raises:
            GraphError: when the name is taken or the data is not what the type says.
        """
        made = type or TensorType(constant.dtype, constant.shape)
        _check_constant(name, made, constant)
        return self._register(Value(name, made, constant))

    def add_node(
        self,
        op: str,
        inputs: Sequence[Value | None],
        outputs: Sequence[tuple[str, TensorType]],
        attributes: Mapping[str, AttributeValue] | None = None,
        *,
        name: str = "",
        location: Location | None = None,
        layer: str = "",
        before: Node | None = None,
    ) -> Node:
        """Add a node with new output values, at the end or `before` another one.

        Without `name` it is named after its first output.

        Raises:
            GraphError: when an output's name is taken, there is no output, an attribute cannot be held, or an
                operand or `before` belongs to another graph. The graph is as it was then.
        """
        for value in inputs:
            if value is not None:
                self._check_mine(value)
        kept = {key: as_attribute(entry) for key, entry in (attributes or {}).items()}
        names = [output for output, _ in outputs]
        taken = [output for at, output in enumerate(names) if output in self._values or output in names[:at]]
        if taken:
            raise GraphError("two values have this name", place=taken[0])
        if not outputs:
            raise GraphError("a node has at least one result", place=f"{op} {name}".strip())
        at = None if before is None else self._index(before)
        made = tuple(self._register(Value(output, known)) for output, known in outputs)
        node = Node(
            op,
            tuple(inputs),
            made,
            kept,
            name or self._fresh_node_name(names[0]),
            location or Location(),
            layer,
        )
        self._attach(node, at)
        return node

    def set_outputs(self, values: Iterable[Value]) -> None:
        """Say what a run returns.

        Raises:
            GraphError: when a value belongs to another graph.
        """
        chosen = list(values)
        for value in chosen:
            self._check_mine(value)
        self._outputs = chosen

    # --- changing ---

    def set_input(self, node: Node, operand: int, value: Value | None) -> None:
        """Let an operand read another value; operands left out in between become ``None``.

        Raises:
            GraphError: when node or value belong to another graph.
        """
        self._check_node(node)
        if value is not None:
            self._check_mine(value)
        if operand < 0:
            raise GraphError(f"operands count from 0, found {operand}", place=node.place)
        operands = list(node.inputs) + [None] * (operand + 1 - len(node.inputs))
        old = operands[operand]
        if old is not None:
            old._uses.pop(Use(node, operand), None)
        operands[operand] = value
        while operands and operands[-1] is None:
            operands.pop()
        node._inputs = tuple(operands)
        if value is not None:
            value._uses[Use(node, operand)] = None

    def set_attribute(self, node: Node, name: str, value: AttributeValue | None) -> None:
        """Set or, with ``None``, remove an attribute.

        Raises:
            GraphError: when no attribute can hold the value, or the node belongs to another graph.
        """
        self._check_node(node)
        changed = {key: kept for key, kept in node.attributes.items() if key != name}
        if value is not None:
            changed[name] = as_attribute(value)
        node._attributes = changed

    def replace_uses(self, old: Value, new: Value) -> None:
        """Let all that read `old`, graph outputs included, read `new`.

        Raises:
            GraphError: when one of them belongs to another graph.
        """
        self._check_mine(old)
        self._check_mine(new)
        for use in old.uses:
            self.set_input(use.node, use.operand, new)
        self._outputs = [new if output is old else output for output in self._outputs]

    def retype(self, value: Value, type: TensorType) -> None:  # noqa: A002
        """Change the type of a value; the only way to quantize one.

        Raises:
            GraphError: when the value is a constant whose data is not of that type.
        """
        self._check_mine(value)
        _check_constant(value.name, type, value.constant)
        value._type = type

    def set_constant(self, value: Value, constant: Constant, type: TensorType | None = None) -> None:  # noqa: A002
        """Give a constant other data and, if it changes, another type.

        Without `type` the value is not quantized any more, since its type is that of the data.

        Raises:
            GraphError: when the value is not constant, or the data is not of that type.
        """
        self._check_mine(value)
        if not value.is_constant:
            raise GraphError("only a constant has data", place=value.name)
        made = type or TensorType(constant.dtype, constant.shape)
        _check_constant(value.name, made, constant)
        value._constant, value._type = constant, made

    def rename(self, value: Value, name: str) -> None:
        """Give a value another name; a node that bears the name of this first result of its goes along.

        Raises:
            GraphError: when the name is taken.
        """
        self._check_mine(value)
        if name == value.name:
            return
        if name in self._values:
            raise GraphError("the name is taken", place=name)
        maker = value.producer
        if maker is not None and maker.output is value and maker.name == value.name:
            maker.name = self._fresh_node_name(name)
        del self._values[value.name]
        self._values[name] = value
        value._name = name

    def remove(self, node: Node) -> None:
        """Remove a node whose results nobody reads.

        Raises:
            GraphError: when somebody does, or the node belongs to another graph.
        """
        self._check_node(node)
        for value in node.outputs:
            if value.uses or self.is_output(value):
                raise GraphError(f"{value.name} is still read", place=node.place)
        self._drop(node)
        self._nodes.remove(node)

    def prune(self) -> int:
        """Remove nodes and constants that reach no output; inputs stay. Returns how many nodes went."""
        live = reaching(self._outputs)
        dead = [node for node in self._nodes if node not in live]
        for node in dead:
            self._drop(node)
        self._nodes = [node for node in self._nodes if node in live]
        for value in self.constants:
            if not value.uses and not self.is_output(value):
                del self._values[value.name]
        return len(dead)

    def remove_input(self, value: Value) -> None:
        """Remove an input that nobody reads.

        Raises:
            GraphError: when somebody does, or the value is no input of this graph.
        """
        if not any(value is known for known in self._inputs):
            raise GraphError("the graph has no such input", place=value.name)
        if value.uses or self.is_output(value):
            raise GraphError("the input is still read", place=value.name)
        self._inputs = [kept for kept in self._inputs if kept is not value]
        del self._values[value.name]

    def sort(self) -> None:
        """Bring the nodes into executable order, keeping the present order where it is free.

        Raises:
            GraphError: when there is a cycle, naming a node on it.
        """
        self._nodes = executable_order(self._nodes)

    def clone(self) -> Graph:
        """A graph of its own with the same content, in whatever order; constants are shared."""
        copy = Graph(self.name)
        made: dict[Value | None, Value | None] = {None: None}
        for value in self._values.values():
            made[value] = copy._register(Value(value.name, value.type, value.constant))
        for node in self._nodes:
            inputs = tuple(made[value] for value in node.inputs)
            outputs = tuple(copy._values[value.name] for value in node.outputs)
            copy._attach(
                Node(node.op, inputs, outputs, node._attributes, node.name, node.location, node.layer)
            )
        copy._inputs = [copy._values[value.name] for value in self._inputs]
        copy._outputs = [copy._values[value.name] for value in self._outputs]
        return copy

    def __eq__(self, other: object) -> bool:
        return NotImplemented if not isinstance(other, Graph) else _content(self) == _content(other)

    __hash__ = None  # type: ignore[assignment]  # a graph changes, so it cannot be a key

    def _register(self, value: Value) -> Value:
        if value.name in self._values:
            raise GraphError("two values have this name", place=value.name)
        self._values[value.name] = value
        return value

    def _check_mine(self, value: Value) -> None:
        if self._values.get(value.name) is not value:
            raise GraphError("the value belongs to another graph", place=value.name)

    def _check_node(self, node: Node) -> None:
        self._check_mine(node.output)

    def _fresh_node_name(self, base: str) -> str:
        if not any(node.name == base for node in self._nodes):
            return base
        taken = {node.name for node in self._nodes}
        return next(name for number in itertools.count(1) if (name := f"{base}_{number}") not in taken)

    def _index(self, node: Node) -> int:
        self._check_node(node)
        return self._nodes.index(node)

    def _attach(self, node: Node, at: int | None = None) -> None:
        for value in node.outputs:
            value._producer = node
        for operand, read in enumerate(node.inputs):
            if read is not None:
                read._uses[Use(node, operand)] = None
        self._nodes.insert(len(self._nodes) if at is None else at, node)

    def _drop(self, node: Node) -> None:
        for operand, read in enumerate(node.inputs):
            if read is not None:
                read._uses.pop(Use(node, operand), None)
        for value in node.outputs:
            del self._values[value.name]


def _check_constant(name: str, said: TensorType, constant: Constant | None) -> None:
    if constant is None or (constant.dtype == said.storage and constant.shape == said.shape):
        return
    shape = "[*]" if said.shape is None else list(said.shape)
    raise GraphError(
        f"the data is {constant.dtype}{list(constant.shape)}, the type says {said.storage}{shape}",
        place=name,
    )


def _content(graph: Graph) -> object:
    return (
        graph.name,
        [(value.name, value.type) for value in graph.inputs],
        {value.name: (value.type, value.constant) for value in graph.constants},
        [
            (
                node.op,
                node.name,
                node.layer,
                node.location,
                dict(node.attributes),
                [None if value is None else value.name for value in node.inputs],
                [(value.name, value.type) for value in node.outputs],
            )
            for node in graph
        ],
        [value.name for value in graph.outputs],
    )
