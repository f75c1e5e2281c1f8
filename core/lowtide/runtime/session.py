"""ONNX Runtime, one thread a session; concurrency comes from frames in flight.

Two frames on two sessions' worth of threads beat one session with two threads, and a thread that waits does
not spin.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, cast

import onnx
import onnxruntime  # pyright: ignore[reportMissingTypeStubs]  # it ships no types

from lowtide.errors import ModelError
from lowtide.ir import Array

T = TypeVar("T")

_ort: Any = onnxruntime

WORKERS = min(2, os.cpu_count() or 1)
"""Frames in flight: activations of this many frames are in memory at once."""


class Session:
    """A model ready to run.

    Args:
        model: the model, or its bytes where it would be held twice; Q/DQ pairs run as the float operations
            they are, not fused into integer kernels, so that results do not depend on the integer
            instructions of the machine.
        optimize: let ONNX Runtime rewrite the graph; results of different levels differ in the last bits.
        disabled: names of optimizers to leave out.

    Raises:
        ModelError: when ONNX Runtime does not take the model.
    """

    def __init__(
        self, model: onnx.ModelProto | bytes, *, optimize: bool = True, disabled: Iterable[str] = ()
    ) -> None:
        options = _ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        level = _ort.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
        data = model if isinstance(model, bytes) else model.SerializeToString()
        try:
            self._session = _ort.InferenceSession(
                data,
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=list(disabled),
            )
        except Exception as error:
            raise ModelError(
                f"ONNX Runtime does not take the network: {error}",
                place="" if isinstance(model, bytes) else model.graph.name,
            ) from error
        self.output_names: tuple[str, ...] = tuple(output.name for output in self._session.get_outputs())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; releases the GIL.

        Raises:
            ModelError: when the run fails, with ONNX Runtime's words.
        """
        try:
            results = cast("list[Array]", self._session.run(None, dict(feeds)))
        except Exception as error:
            raise ModelError(f"the run failed: {error}") from error
        return dict(zip(self.output_names, results, strict=True))


class Runner(Protocol):
    """What runs one frame."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name."""
        ...


class Nothing:
    """No network at all, for a comparison with nothing: ONNX Runtime takes no model without outputs."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Runner.run`."""
        del feeds
        return {}


def in_flight(
    session: Runner, items: Iterable[T], feeds_of: Callable[[T], Mapping[str, Array]]
) -> Generator[tuple[T, dict[str, Array]], None, None]:
    """Run one item after the other with up to `WORKERS` at once; results come in the order of the items.

    Closing the generator early waits for what is running and starts nothing more.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting: deque[tuple[T, Future[dict[str, Array]]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(session.run, feeds_of(item))))
                if len(waiting) > WORKERS - 1:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
