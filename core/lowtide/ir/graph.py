"""The graph: values, the nodes that make them, and one mutator per invariant.

Operators are those of ONNX's default domain at `lowtide.ir.schema.OPSET`: names, attributes and meaning, channels first.
Nodes and values are compared by identity; types, attributes and constants by value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import attrs

from lowtide.errors import GraphError
from lowtide.ir.constant import Constant
from lowtide.ir.types import TensorType

AttributeValue = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | Constant
"""What an attribute may hold; lists are tuples, tensors are constants, subgraphs do not occur."""


@attrs.frozen
class Location:
    """Where something comes from, in the words of the model file.

    Attributes:
        model: file name of the model.
        nodes: names of the original nodes; several after a fusion, in order of execution.
        tensors: names of the original output tensors, in the same order.
    """

    model: str = ""
    nodes: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()

    def merged(self, later: Location) -> Location:
        """The place of this and a later node that were fused into one."""
        new_nodes = tuple(name for name in later.nodes if name not in self.nodes)
        new_tensors = tuple(name for name in later.tensors if name not in self.tensors)
        return Location(self.model or later.model, self.nodes + new_nodes, self.tensors + new_tensors)

    def __str__(self) -> str:
        names = "+".join(name for name in (self.nodes or self.tensors) if name)
        return f"{self.model}: {names}" if self.model and names else names or self.model


class Use(NamedTuple):
    """One place where a value is read."""

    node: Node
    operand: int


@attrs.define(eq=False, repr=False)
class Value:
    """A tensor: an input, a constant, or one output of a node."""

    _name: str
    _type: TensorType
    _constant: Constant | None = None
    _producer: Node | None = attrs.field(default=None, init=False)
    _uses: dict[Use, None] = attrs.field(factory=dict["Use", None], init=False)

    @property
    def name(self) -> str:
        """The name, unique in the graph; changed by `Graph.rename`."""
        return self._name

    @property
    def type(self) -> TensorType:
        """The type; changed by `Graph.retype` and `Graph.set_constant`."""
        return self._type

    @property
    def constant(self) -> Constant | None:
        """The data of a constant, ``None`` for any other value."""
        return self._constant

    @property
    def is_constant(self) -> bool:
        """Whether the value is known at compile time."""
        return self._constant is not None

    @property
    def producer(self) -> Node | None:
        """The node that computes it, ``None`` for inputs and constants."""
        return self._producer

    @property
    def uses(self) -> tuple[Use, ...]:
        """Where it is read, in the order in which the uses came; graph outputs are not listed."""
        return tuple(self._uses)

    @property
    def users(self) -> tuple[Node, ...]:
        """The distinct nodes that read it."""
        return tuple(dict.fromkeys(use.node for use in self._uses))

    def __repr__(self) -> str:
        return f"Value({self._name!r}: {self._type})"


@attrs.define(eq=False, repr=False)
class Node:
    """One operator.

    Attributes:
        op: the operator, as ONNX spells it.
        name: the name for messages, unique in the graph.
        location: where it comes from; rewrites carry it along.
        layer: the name of the fused layer that the node belongs to, empty when it is a layer by itself. The values
            between nodes of one layer never leave the device's registers and are not quantized.
    """

    op: str
    _inputs: tuple[Value | None, ...]
    _outputs: tuple[Value, ...]
    _attributes: Mapping[str, AttributeValue]
    name: str = ""
    location: Location = attrs.field(factory=Location)
    layer: str = ""

    @property
    def inputs(self) -> tuple[Value | None, ...]:
        """Operands; ``None`` stands for an optional one that is left out."""
        return self._inputs

    @property
    def outputs(self) -> tuple[Value, ...]:
        """Results."""
        return self._outputs

    @property
    def output(self) -> Value:
        """The first result."""
        return self._outputs[0]

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """Read-only; changed by `Graph.set_attribute`."""
        return MappingProxyType(dict(self._attributes))

    def operand(self, index: int) -> Value | None:
        """The operand at `index`, ``None`` when it is left out or beyond the last."""
        return self._inputs[index] if index < len(self._inputs) else None

    def value(self, index: int) -> Value:
        """The operand at `index`.

        Raises:
            GraphError: when it is left out.
        """
        found = self.operand(index)
        if found is None:
            raise GraphError(f"{self.op} has no operand {index}", place=self.place)
        return found

    def int_attribute(self, name: str, default: int) -> int:
        """An integer attribute or its default."""
        found = self._attributes.get(name, default)
        if not isinstance(found, int):
            raise GraphError(f"attribute {name} should be an integer, found {found!r}", place=self.place)
        return found

    def ints_attribute(self, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        """A list of integers or its default."""
        found = self._attributes.get(name, tuple(default))
        if not isinstance(found, tuple):
            raise GraphError(
                f"attribute {name} should be a list of integers, found {found!r}", place=self.place
            )
        return tuple(int(entry) for entry in found)

    def float_attribute(self, name: str, default: float) -> float:
        """A float attribute or its default."""
        found = self._attributes.get(name, default)
        if not isinstance(found, int | float):
            raise GraphError(f"attribute {name} should be a number, found {found!r}", place=self.place)
        return float(found)

    def str_attribute(self, name: str, default: str) -> str:
        """A string attribute or its default."""
        found = self._attributes.get(name, default)
        if not isinstance(found, str):
            raise GraphError(f"attribute {name} should be a string, found {found!r}", place=self.place)
        return found

    @property
    def place(self) -> str:
        """The node in the words of the model file, for messages."""
        where = str(self.location) or self.name or (self._outputs[0].name if self._outputs else "?")
        return f"{self.op} {where}"

    def __repr__(self) -> str:
        return f"Node({self.place})"


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
        value = Value(name, type or TensorType(constant.dtype, constant.shape), constant)
        _check_constant(value)
        return self._register(value)

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

        Raises:
            GraphError: when an output's name is taken or an operand belongs to another graph.
        """
        for value in inputs:
            if value is not None:
                self._check_mine(value)
        made = tuple(self._register(Value(output, type)) for output, type in outputs)
        given = location if location is not None else Location()
        node = Node(op, tuple(inputs), made, dict(attributes or {}), name or made[0].name, given, layer)
        for value in made:
            value._producer = node  # noqa: SLF001 - the graph keeps the invariants of its values
        for operand, value in enumerate(inputs):
            if value is not None:
                value._uses[Use(node, operand)] = None  # noqa: SLF001
        if before is None:
            self._nodes.append(node)
        else:
            self._nodes.insert(self._nodes.index(before), node)
        return node

    def set_outputs(self, values: Iterable[Value]) -> None:
        """Say what a run returns."""
        chosen = list(values)
        for value in chosen:
            self._check_mine(value)
        self._outputs = chosen

    # --- changing ---

    def set_input(self, node: Node, operand: int, value: Value | None) -> None:
        """Let an operand read another value; operands left out in between become ``None``."""
        if value is not None:
            self._check_mine(value)
        operands = list(node.inputs) + [None] * (operand + 1 - len(node.inputs))
        old = operands[operand]
        if old is not None:
            old._uses.pop(Use(node, operand), None)  # noqa: SLF001
        operands[operand] = value
        while operands and operands[-1] is None:
            operands.pop()
        node._inputs = tuple(operands)  # noqa: SLF001
        if value is not None:
            value._uses[Use(node, operand)] = None  # noqa: SLF001

    def set_attribute(self, node: Node, name: str, value: AttributeValue | None) -> None:
        """Set or, with ``None``, remove an attribute."""
        changed = {key: kept for key, kept in node.attributes.items() if key != name}
        if value is not None:
            changed[name] = value
        node._attributes = changed  # noqa: SLF001

    def replace_uses(self, old: Value, new: Value) -> None:
        """Let all that read `old`, graph outputs included, read `new`."""
        for use in old.uses:
            self.set_input(use.node, use.operand, new)
        self._outputs = [new if output is old else output for output in self._outputs]

    def retype(self, value: Value, type: TensorType) -> None:  # noqa: A002
        """Change the type of a value; the only way to quantize one.

        Raises:
            GraphError: when the value is a constant whose data is not of that type.
        """
        before = value.type
        value._type = type  # noqa: SLF001
        try:
            _check_constant(value)
        except GraphError:
            value._type = before  # noqa: SLF001
            raise

    def set_constant(self, value: Value, constant: Constant, type: TensorType | None = None) -> None:  # noqa: A002
        """Give a constant other data and, if it changes, another type."""
        if not value.is_constant:
            raise GraphError("only a constant has data", place=value.name)
        value._constant = constant  # noqa: SLF001
        value._type = type or TensorType(constant.dtype, constant.shape)  # noqa: SLF001
        _check_constant(value)

    def rename(self, value: Value, name: str) -> None:
        """Give a value another name.

        Raises:
            GraphError: when the name is taken.
        """
        if name in self._values:
            raise GraphError("the name is taken", place=name)
        del self._values[value.name]
        value._name = name  # noqa: SLF001
        self._values[name] = value

    def remove(self, node: Node) -> None:
        """Remove a node whose results nobody reads.

        Raises:
            GraphError: when somebody does.
        """
        for value in node.outputs:
            if value.uses or self.is_output(value):
                raise GraphError(f"{value.name} is still read", place=node.place)
        for operand, read in enumerate(node.inputs):
            if read is not None:
                read._uses.pop(Use(node, operand), None)  # noqa: SLF001
        for value in node.outputs:
            del self._values[value.name]
        self._nodes.remove(node)

    def prune(self) -> int:
        """Remove nodes and constants that reach no output; inputs stay. Returns how many nodes went."""
        gone = 0
        for node in reversed(tuple(self._nodes)):
            if not any(value.uses or self.is_output(value) for value in node.outputs):
                self.remove(node)
                gone += 1
        for value in self.constants:
            if not value.uses and not self.is_output(value):
                del self._values[value.name]
        return gone

    def remove_input(self, value: Value) -> None:
        """Remove an input that nobody reads."""
        if value.uses or self.is_output(value):
            raise GraphError("the input is still read", place=value.name)
        self._inputs = [kept for kept in self._inputs if kept is not value]
        del self._values[value.name]

    def sort(self) -> None:
        """Bring the nodes into executable order, keeping the present order where it is free.

        Raises:
            GraphError: when there is a cycle, naming a node on it.
        """
        done: set[Node] = set()
        ordered: list[Node] = []
        for root in self._nodes:
            stack: list[tuple[Node, bool]] = [(root, False)]
            open_nodes: set[Node] = set()
            while stack:
                node, ready = stack.pop()
                if ready:
                    open_nodes.discard(node)
                    if node not in done:
                        done.add(node)
                        ordered.append(node)
                    continue
                if node in done:
                    continue
                if node in open_nodes:
                    raise GraphError("the node depends on its own result", place=node.place)
                open_nodes.add(node)
                stack.append((node, True))
                makers = [value.producer for value in reversed(node.inputs) if value is not None]
                stack.extend((maker, False) for maker in makers if maker is not None and maker not in done)
        self._nodes = ordered

    def clone(self) -> Graph:
        """A graph of its own with the same content; constants are shared."""
        copy = Graph(self.name)
        for value in self._values.values():
            if value.producer is None:
                copy._register(Value(value.name, value.type, value.constant))
        copy._inputs = [copy._values[value.name] for value in self._inputs]
        for node in self._nodes:
            copy.add_node(
                node.op,
                [None if value is None else copy._values[value.name] for value in node.inputs],
                [(value.name, value.type) for value in node.outputs],
                node.attributes,
                name=node.name,
                location=node.location,
                layer=node.layer,
            )
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


def _check_constant(value: Value) -> None:
    constant = value.constant
    if constant is None:
        return
    if constant.dtype != value.type.storage or constant.shape != value.type.shape:
        raise GraphError(
            f"the data is {constant.dtype}{list(constant.shape)}, the type says "
            f"{value.type.storage}{value.type.shape}",
            place=value.name,
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
