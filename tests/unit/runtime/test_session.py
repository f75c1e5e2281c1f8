"""Runs are repeatable and in order, and what ONNX Runtime refuses is an error of the model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from lowtide.errors import ModelError
from lowtide.ir import Constant, Graph, QuantParams, TensorType
from lowtide.runtime import WORKERS, Session, in_flight, save, save_model, to_model


def doubling() -> Session:
    graph = Graph("double")
    x = graph.add_input("x", TensorType("float32", [2]))
    graph.set_outputs([graph.add_node("Add", [x, x], [("y", x.type)]).output])
    return Session(to_model(graph, quantized=False))


def feed(number: int) -> dict[str, np.ndarray]:
    return {"x": np.full(2, number, np.float32)}


def test_a_model_that_onnx_runtime_does_not_take_is_refused() -> None:
    graph = Graph("net")
    x = graph.add_input("x", TensorType("float32", [2]))
    graph.set_outputs([graph.add_node("MatMul", [x], [("y", x.type)]).output])
    with pytest.raises(ModelError, match="ONNX Runtime does not take the network") as caught:
        Session(to_model(graph, quantized=False))
    assert caught.value.place == "net"


def test_a_model_in_bytes_runs_as_the_model_does() -> None:
    model = to_model(weights(), quantized=True)
    feeds = {"x": np.ones((1, 64), np.float32)}
    expected, found = Session(model).run(feeds), Session(model.SerializeToString()).run(feeds)
    assert list(found) == ["y"]
    np.testing.assert_array_equal(found["y"], expected["y"])


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(ModelError, match="ONNX Runtime does not take the network"):
        Session(b"no model")


@pytest.mark.parametrize(
    "feeds",
    [{}, {"wrong": np.ones(2, np.float32)}, {"x": np.ones(3, np.float32)}, {"x": np.ones(2, np.int32)}],
)
def test_feeds_that_do_not_fit_are_an_error_of_the_run(feeds: dict[str, np.ndarray]) -> None:
    with pytest.raises(ModelError, match="the run failed"):
        doubling().run(feeds)


def test_results_come_in_the_order_of_the_items_and_each_with_its_own() -> None:
    results = list(in_flight(doubling(), range(20), feed))
    assert [item for item, _ in results] == list(range(20))
    assert all(result["y"].tolist() == [2 * item, 2 * item] for item, result in results)


def test_no_more_items_are_taken_than_are_in_flight() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    for done, (item, _) in enumerate(in_flight(doubling(), items(), feed)):
        assert item == done
        assert len(taken) <= done + WORKERS


def test_an_error_in_a_frame_arrives_with_that_frame_and_ends_the_threads() -> None:
    before = threading.active_count()
    results = in_flight(
        doubling(), [1, 2, 0, 4], lambda number: {"x": np.ones(2 if number else 3, np.float32)}
    )
    assert [next(results)[0], next(results)[0]] == [1, 2]
    with pytest.raises(ModelError, match="the run failed"):
        next(results)
    assert threading.active_count() == before


def test_stopping_early_ends_the_threads() -> None:
    before = threading.active_count()
    results = in_flight(doubling(), range(10), feed)
    next(results)
    results.close()
    assert threading.active_count() == before


def test_nothing_to_run_gives_nothing() -> None:
    assert list(in_flight(doubling(), [], feed)) == []


def weights() -> Graph:
    graph = Graph("net")
    x = graph.add_input("x", TensorType("float32", [1, 64]))
    quant = QuantParams("int8", 0.5)
    codes = Constant.of(np.arange(64 * 64).reshape(64, 64).astype(np.int8))
    w = graph.add_constant("w", codes, TensorType("float32", [64, 64], quant))
    graph.set_outputs([graph.add_node("MatMul", [x, w], [("y", x.type)]).output])
    return graph


@pytest.mark.parametrize("quantized", [True, False])
def test_a_large_model_is_saved_with_its_data_beside_it_and_over_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, quantized: bool
) -> None:
    monkeypatch.setattr(save, "EXTERNAL_LIMIT", 100)
    path = tmp_path / "model.onnx"
    assert save_model(weights(), path, quantized=quantized) == ("model.onnx", "model.onnx.data")
    first = (path.read_bytes(), (tmp_path / "model.onnx.data").read_bytes())
    save_model(weights(), path, quantized=quantized)
    assert (path.read_bytes(), (tmp_path / "model.onnx.data").read_bytes()) == first
    onnx.checker.check_model(str(path), full_check=True)
    feeds = {"x": np.ones((1, 64), np.float32)}
    expected = Session(to_model(weights(), quantized=quantized)).run(feeds)["y"]
    np.testing.assert_array_equal(Session(onnx.load(path)).run(feeds)["y"], expected)


def test_the_limit_counts_real_numbers_where_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(save, "EXTERNAL_LIMIT", 64 * 64 + 100)
    assert len(save_model(weights(), tmp_path / "codes.onnx", quantized=True)) == 1
    assert len(save_model(weights(), tmp_path / "real.onnx", quantized=False)) == 2
