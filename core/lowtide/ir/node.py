"""Values and the nodes that make them. `lowtide.ir.Graph` changes them; by themselves they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, cast

import attrs
import numpy as np

from lowtide.errors import GraphError
from lowtide.ir.constant import Constant
from lowtide.ir.types import TensorType

AttributeValue = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | Constant
"""What an attribute may hold; lists are tuples, tensors are constants, subgraphs do not occur."""


def as_attribute(value: object) -> AttributeValue:
    """A value as attributes hold it: plain Python numbers, also where numpy gave them, and tuples for lists.

    Raises:
        GraphError: when no attribute can hold it.
    """
    match value:
        case str() | Constant():
            return value
        case bool() | int() | np.integer() | np.bool_():
            return int(value)
        case float() | np.floating():
            return float(value)
        case list() | tuple():
            entries = [as_attribute(entry) for entry in cast("Sequence[object]", value)]
            if not any(isinstance(entry, tuple | Constant) for entry in entries):
                return cast("tuple[int, ...]", tuple(entries))
        case _:
            pass
    raise GraphError(
        f"an attribute holds a number, a string, a list of these or a Constant, found {value!r}",
        hint="wrap arrays in Constant.of",
    )


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
        layer: the name of the fused layer that the node belongs to, empty when it is a layer by itself. The
            values between nodes of one layer never leave the device's registers and are not quantized.
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
        return MappingProxyType(self._attributes)

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
