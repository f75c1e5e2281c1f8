"""The steps of a network as a program: neighbouring nodes as models, Python between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import attrs
import onnx
from onnx import helper

from lowtide.exact.builder import Builder, Step
from lowtide.ir import OPSET, Array
from lowtide.runtime import Session
from lowtide.runtime.model import add_initializers

FUSIONS = ("ConvMulFusion", "ConvAddFusion", "ConvBNFusion", "MatMulAddFusion")
"""Rewrites of ONNX Runtime that move a factor into weights and so make them no integers any more."""

Feed = tuple[int, Sequence[int | None] | None]
"""ONNX element type and shape."""


@attrs.frozen(eq=False)
class _Segment:
    session: Session
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, tensors: dict[str, Array]) -> None:
        tensors.update(self.session.run({name: tensors[name] for name in self.inputs}))


@attrs.frozen(eq=False)
class Program:
    """Runs the steps, neighbouring ONNX nodes as one model."""

    parts: tuple[_Segment | Step, ...]
    constants: Mapping[str, Array]

    @classmethod
    def of(cls, builder: Builder, feeds: Mapping[str, Feed], wanted: Iterable[str]) -> Program:
        """Put the steps together.

        Args:
            builder: the steps.
            feeds: what a run is fed, by name.
            wanted: the tensors that a run returns.
        """
        runs: list[list[onnx.NodeProto] | Step] = []
        for step in builder.steps:
            if isinstance(step, Step):
                runs.append(step)
            elif runs and isinstance(runs[-1], list):
                runs[-1].append(step)
            else:
                runs.append([step])
        readers = Counter(name for run in runs for name in _read(run))
        needed = set(wanted)
        parts: list[_Segment | Step] = []
        for run in reversed(runs):
            if isinstance(run, Step):
                needed.update(run.inputs)
                parts.append(run)
                continue
            made = {name for node in run for name in node.output}
            inputs = {name for node in run for name in node.input if name} - made - builder.constants.keys()
            outputs = tuple(sorted(made & needed))
            if outputs:
                # Weights go into the session, and held twice would double the memory.
                read = _read(run) & builder.constants.keys()
                own = {name: builder.constants.pop(name) for name in read if readers[name] == 1}
                shared = {name: builder.constants[name] for name in read - own.keys()}
                infos = [_info(name, builder, feeds) for name in sorted(inputs)]
                data = _serialized(run, infos, outputs, own, shared)
                parts.append(_Segment(Session(data, disabled=FUSIONS), tuple(sorted(inputs)), outputs))
                needed |= inputs
        asked = {name for part in parts if isinstance(part, Step) for name in part.inputs}
        constants = {name: array for name, array in builder.constants.items() if name in asked}
        return cls(tuple(reversed(parts)), constants)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All tensors that were fed or are wanted, and those between the parts."""
        tensors = {**self.constants, **feeds}
        for part in self.parts:
            if isinstance(part, Step):
                tensors[part.output] = part.compute(*(tensors[name] for name in part.inputs))
            else:
                part.run(tensors)
        return tensors


def _read(run: list[onnx.NodeProto] | Step) -> set[str]:
    """The names that a part reads."""
    if isinstance(run, Step):
        return set(run.inputs)
    return {name for node in run for name in node.input}


def _serialized(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: Iterable[str],
    own: dict[str, Array],
    shared: Mapping[str, Array],
) -> bytes:
    """A model in bytes; constants of its own are taken away one by one, so that none is there three times."""
    results = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(nodes, "exact", inputs, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    names = sorted({*own, *shared})
    add_initializers(model, ((name, own.pop(name) if name in own else shared[name]) for name in names))
    return model.SerializeToString()


def _info(name: str, builder: Builder, feeds: Mapping[str, Feed]) -> onnx.ValueInfoProto:
    if name in feeds:
        number, shape = feeds[name]
        return helper.make_tensor_value_info(name, number, None if shape is None else list(shape))
    return helper.make_tensor_value_info(name, builder.types.get(name, onnx.TensorProto.FLOAT), None)
