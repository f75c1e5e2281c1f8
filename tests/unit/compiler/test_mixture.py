"""Networks of mixed widths put together from two, in whole and in part, and the journal of what they give."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest

import lowtide
from lowtide.compiler.journal import Journal
from lowtide.compiler.mixture import Mixture, Run
from lowtide.compiler.noise import LENGTH, error_of, output_vector, shortened
from lowtide.diagnostics import Diagnostics
from lowtide.errors import PassError
from lowtide.ir import Array
from lowtide.precision import PrecisionPlan, precision_classes
from lowtide.runtime import Session, to_model
from support import CALIBRATION, MODEL

TARGETS = ("am68a", "tda4vm")


def compiled(target: str, bits: int) -> lowtide.CompileResult:
    options = {"tensor_bits": bits, "accuracy_level": 0}
    return lowtide.compile(MODEL, target=target, data=str(CALIBRATION), frames=8, options=options)


@pytest.fixture(scope="module", params=TARGETS)
def pair(request: pytest.FixtureRequest) -> tuple[lowtide.CompileResult, lowtide.CompileResult]:
    return compiled(request.param, 8), compiled(request.param, 16)


def mixture(pair: tuple[lowtide.CompileResult, lowtide.CompileResult]) -> Mixture:
    narrow, wide = pair
    return Mixture(narrow.graph, wide.graph, narrow.device)


def frames() -> list[dict[str, Array]]:
    with np.load(CALIBRATION) as data:
        return [{"image": image[np.newaxis].astype(np.float32)} for image in data["image"][:3]]


def test_a_mixture_of_one_width_is_that_network(
    pair: tuple[lowtide.CompileResult, lowtide.CompileResult],
) -> None:
    for result in pair:
        made = Session(to_model(mixture(pair).graph(result.plan), quantized=True))
        for feeds in frames():
            found = next(iter(made.run(feeds).values()))
            expected = next(iter(result.run(feeds, mode="qdq").values()))
            quant = result.graph.outputs[0].type.quant
            # Ties go up here, as on the device, and to even there.
            step = quant.scale[0] if quant else 1e-3
            assert np.abs(found - expected).max() <= 3 * step


def test_a_part_gives_what_the_whole_gives(
    pair: tuple[lowtide.CompileResult, lowtide.CompileResult],
) -> None:
    narrow, wide = pair
    made = mixture(pair)
    base = Run(made, narrow.plan, frames())
    groups = precision_classes(narrow.graph, narrow.target, narrow.placement)
    for group in groups:
        raised = {**narrow.plan.activations, **dict.fromkeys(group.tensors, 16)}
        plan = PrecisionPlan(raised, narrow.plan.weights)
        part = base.varied(plan, made.behind(group.tensors, ()))
        whole = Session(to_model(made.graph(plan), quantized=True))
        for feeds, found in zip(frames(), part, strict=True):
            expected = next(iter(whole.run(feeds).values()))
            np.testing.assert_allclose(next(iter(found.values())), expected, rtol=1e-3, atol=1e-3)
    assert wide.plan.weights.keys() == narrow.plan.weights.keys()


def test_only_what_lies_behind_a_change_runs(
    pair: tuple[lowtide.CompileResult, lowtide.CompileResult],
) -> None:
    made, names = mixture(pair), list(mixture(pair).layers)
    assert made.behind((), (names[-1],)) == (names[-1],)
    assert set(made.behind((), (names[0],))) == set(names)


def test_other_layers_are_refused(pair: tuple[lowtide.CompileResult, lowtide.CompileResult]) -> None:
    narrow, wide = pair
    shorter = wide.graph.clone()
    shorter.set_outputs([layer.outputs[0] for layer in shorter.nodes[:-1]][-1:])
    shorter.prune()
    with pytest.raises(PassError, match="changed the layers"):
        Mixture(narrow.graph, shorter, narrow.device)


def test_the_squared_length_of_an_error_is_noise_by_signal() -> None:
    real = [{"a": np.array([3.0, 4.0], np.float32), "b": np.array([1, 2, 3, 4])}]
    made = [{"x": np.array([3.0, 3.0], np.float32), "y": np.array([1, 2, 0, 4])}]
    assert error_of(output_vector(real, made)) == pytest.approx((1 / 25 + 1 / 4) / 2)
    assert error_of(output_vector(real, real)) == 0


def test_short_vectors_keep_their_products() -> None:
    random = np.random.default_rng(3)
    first, second = random.standard_normal((2, 100_000))
    third = first + 0.5 * second
    short = [shortened(vector) for vector in (first, second, third)]
    assert all(vector.size == LENGTH for vector in short)
    assert float(short[0] @ short[2]) == pytest.approx(float(first @ third), rel=0.1)
    assert abs(float(short[0] @ short[1])) < 0.1 * float(first @ first)


def test_a_journal_finds_its_entries_again(tmp_path: Path) -> None:
    file, diagnostics = tmp_path / "a" / "b.jsonl", Diagnostics()
    first = Journal(file, diagnostics)
    vector = np.array([1.5, -2.0], np.float32)
    first.put("one", 0.25)
    first.put("two", vector)
    with file.open("a", encoding="utf-8") as out:
        out.write('["three", 0.5]\n["cut o')
    second = Journal(file, diagnostics)
    assert second.number("one") == 0.25
    assert second.number("three") == 0.5
    assert second.number("two") is None
    found = second.vector("two")
    assert found is not None
    assert found.tolist() == vector.tolist()
    assert second.number("cut o") is None
    assert [entry.code for entry in diagnostics] == ["LT764"]
    second.put("four", 0.125)
    assert Journal(file, Diagnostics()).number("four") == 0.125


@pytest.mark.parametrize("line", ["[]", "{}", '["a", true]', '["a"]', "7", "nonsense"])
def test_damaged_lines_are_told_of_and_count_as_not_written(tmp_path: Path, line: str) -> None:
    (tmp_path / "j").write_text(line + "\n", "utf-8")
    diagnostics = Diagnostics()
    assert Journal(tmp_path / "j", diagnostics).number("a") is None
    assert [entry.code for entry in diagnostics] == ["LT764"]


def test_a_journal_that_cannot_be_written_is_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("", "utf-8")
    diagnostics = Diagnostics()
    journal = Journal(tmp_path / "taken" / "j", diagnostics)
    journal.put("a", 1.0)
    assert journal.number("a") == 1.0
    assert "LT763" in [entry.code for entry in diagnostics]
    assert attrs.evolve(journal, file=None).number("a") is None
