"""The contract tests for metrics, emitters and sections let good ones pass and find every breach."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import attrs
import numpy as np
import pytest

import lowtide
from lowtide.compiler.request import CompileRequest
from lowtide.compiler.result import CompileResult
from lowtide.compiler.stages import Compilation
from lowtide.data import Frame
from lowtide.emit import Emitter
from lowtide.errors import DataError, PluginError
from lowtide.ir import Array
from lowtide.measure import Metric
from lowtide.options import OptionLayer
from lowtide.plugin import EmitterSpec, MetricSpec, discover
from lowtide.plugin.testing import check_emitter, check_metric, check_section
from lowtide.report import Section
from support import CALIBRATION, MODEL

REGISTRY = discover()
PLAIN = {"recipe": "use calibrator minmax"}
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def result() -> CompileResult:
    return lowtide.compile(MODEL, target="am68a", data=str(CALIBRATION), frames=4, options=PLAIN)


@pytest.fixture(scope="module")
def compilation() -> Compilation:
    request = CompileRequest(
        model=MODEL,
        target="am68a",
        data=str(CALIBRATION),
        frames=4,
        options=[OptionLayer("test", PLAIN)],
        registry=REGISTRY,
    )
    made = Compilation.begin(request)
    made.run()
    return made


@pytest.mark.parametrize("name", [spec.name for spec in REGISTRY.all(MetricSpec)])
def test_the_built_in_metrics_pass(name: str) -> None:
    assert check_metric(REGISTRY.load(MetricSpec, name)) > 0


@pytest.mark.parametrize("name", [spec.name for spec in REGISTRY.all(EmitterSpec)])
def test_the_built_in_emitters_pass(name: str, result: CompileResult) -> None:
    assert check_emitter(REGISTRY.load(EmitterSpec, name), result)


# --- metrics ---


@attrs.define(kw_only=True)
class Distance(Metric):
    """The mean distance to the outputs of the float network."""

    name: ClassVar[str] = "distance"
    better: ClassVar[Literal["higher", "lower"]] = "lower"
    total: float = 0.0
    frames: int = 0

    def update(self, outputs: Mapping[str, Array], frame: Frame, reference: Mapping[str, Array]) -> None:
        del frame
        self.total += sum(float(np.abs(outputs[name] - reference[name]).sum()) for name in reference)
        self.frames += 1

    def value(self) -> float:
        return self.total / self.frames


class Changing(Distance):
    """Writes into what it is given."""

    def update(self, outputs: Mapping[str, Array], frame: Frame, reference: Mapping[str, Array]) -> None:
        super().update(outputs, frame, reference)
        outputs["scores"][:] = 0


class Shared(Distance):
    """Counts for all objects together."""

    seen: ClassVar[list[float]] = []

    def update(self, outputs: Mapping[str, Array], frame: Frame, reference: Mapping[str, Array]) -> None:
        del frame, reference
        self.seen.append(float(np.abs(outputs["scores"]).sum()))

    def value(self) -> float:
        return sum(self.seen)


class Disturbed(Distance):
    """Remembers which object was fed last."""

    last: ClassVar[list[Metric]] = []

    def update(self, outputs: Mapping[str, Array], frame: Frame, reference: Mapping[str, Array]) -> None:
        del outputs, frame, reference
        self.total += bool(self.last) and self.last[-1] is not self and self.frames > 0
        self.frames += 1
        self.last.append(self)


class Drifting(Distance):
    """Is another one each time."""

    def value(self) -> float:
        return float(next(NUMBERS))


class Wordy(Distance):
    """Is no number."""

    def value(self) -> float:
        return cast(float, "good")


class Empty(Distance):
    """Is not a number."""

    def value(self) -> float:
        return float("nan")


class Crashing(Distance):
    """Fails."""

    def update(self, outputs: Mapping[str, Array], frame: Frame, reference: Mapping[str, Array]) -> None:
        del outputs, frame, reference
        raise KeyError("logits")


class Reversed(Distance):
    """Takes more distance for better."""

    better: ClassVar[Literal["higher", "lower"]] = "higher"


class Indifferent(Distance):
    """Says nothing that anybody knows of what is better."""

    better = cast(Any, "smaller")


class Unsure(Distance):
    """Does not say whether it needs labels."""

    needs_labels = cast(Any, None)


class Labelled(Distance):
    """Needs labels and does not say so."""

    def update(self, outputs: Mapping[str, Array], frame: Frame, reference: Mapping[str, Array]) -> None:
        if frame.label is None:
            raise DataError("no label", place=frame.name)
        super().update(outputs, frame, reference)


class Saying(Labelled):
    """Needs labels and says so."""

    needs_labels: ClassVar[bool] = True


def test_a_good_metric_passes_and_its_figure_is_returned() -> None:
    assert check_metric(Distance) == 0.0
    assert check_metric(Saying) == 0.0


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Changing, "update changes the outputs that it is given"),
        (Shared, "a second object has"),
        (Disturbed, "while another object judges other outputs"),
        (Drifting, "another one the second time"),
        (Wordy, "value should return a number, found 'good'"),
        (Empty, "value should return a number, found NaN"),
        (Crashing, "failed with KeyError: 'logits'"),
        (Reversed, "higher is better, but outputs of the opposite sign have"),
        (Indifferent, "better should be higher or lower, found 'smaller'"),
        (Unsure, "needs_labels should be True or False, found None"),
        (Labelled, r"fails without labels: no label \(give the class needs_labels = True\)"),
    ],
)
def test_a_metric_that_breaks_its_contract_is_found(kind: type[Metric], message: str) -> None:
    with pytest.raises(PluginError, match=message) as caught:
        check_metric(kind)
    assert caught.value.place.startswith("metric distance")


def test_a_metric_may_be_checked_on_frames_of_ones_own() -> None:
    boxes = {"boxes": np.ones((1, 3, 4), np.float32)}
    assert check_metric(Distance, [(Frame("street", {}, label=None), boxes)]) == 0.0
    with pytest.raises(PluginError, match=r"metric distance, street: failed with KeyError: 'scores'"):
        check_metric(Changing, [(Frame("street", {}, label=None), boxes)])


# --- emitters ---


def emitter(write: Callable[[CompileResult, Path], object]) -> type[Emitter]:
    @attrs.frozen
    class Writing(Emitter):
        """Does what the test says."""

        def emit(self, result: CompileResult, folder: Path) -> tuple[str, ...]:
            return cast("tuple[str, ...]", write(result, folder))

    return Writing


def writes(*names: str, returns: object = None, text: Callable[[], object] = str) -> type[Emitter]:
    def write(_: CompileResult, folder: Path) -> object:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(str(text()), "utf-8")
        return names if returns is None else returns

    return emitter(write)


def fails(*_: object) -> object:
    raise OSError("disk full")


def renames(result: CompileResult, folder: Path) -> object:
    del folder
    result.graph.rename(result.graph.outputs[0], result.graph.fresh_name("y"))
    return ()


def test_a_good_emitter_passes_and_its_files_are_returned(result: CompileResult) -> None:
    assert check_emitter(writes("a.txt", "b/c.txt"), result) == ("a.txt", "b/c.txt")
    assert check_emitter(writes(), result) == ()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (writes("a.txt", returns=()), "writes a.txt, which it does not return"),
        (writes(returns=("a.txt",)), "did not write a.txt, which it returned"),
        (writes("a.txt", returns=("a.txt", "a.txt")), "returns a.txt twice"),
        (writes("a.txt", returns=3), "should return a tuple of file names, found 3"),
        (writes("a.txt", returns=("../first/a.txt",)), "names of files in the folder"),
        (writes("manifest.json"), r"writes manifest\.json, which a compile writes"),
        (writes("a.txt", text=lambda: next(NUMBERS)), "writes another a.txt the second time"),
        (emitter(fails), "failed with OSError: disk full"),
    ],
)
def test_an_emitter_that_breaks_its_contract_is_found(
    kind: type[Emitter], message: str, result: CompileResult
) -> None:
    with pytest.raises(PluginError, match=message) as caught:
        check_emitter(kind, result)
    assert caught.value.place == "emitter Writing"


def test_an_emitter_that_changes_the_network_is_found(result: CompileResult) -> None:
    changed = attrs.evolve(result, graph=result.graph.clone())
    with pytest.raises(PluginError, match="changes the network"):
        check_emitter(emitter(renames), changed)


# --- sections ---


def section(say: Callable[[Compilation], object], heading: object = "title") -> type[Section]:
    @attrs.frozen
    class Telling(Section):
        """Says what the test says."""

        title: str = cast(str, heading)

        def text(self, compilation: Compilation) -> str:
            return cast(str, say(compilation))

    return Telling


def crashes(_: object) -> object:
    raise KeyError("ranges")


def drops(compilation: Compilation) -> object:
    compilation.graph.rename(compilation.graph.outputs[0], compilation.graph.fresh_name("y"))
    return "text"


def test_a_good_section_passes_and_its_text_is_returned(compilation: Compilation) -> None:
    assert check_section(section(lambda c: f"{len(c.ranges) > 0}"), compilation) == "True"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (section(lambda _: 3), "text should return text, found 3"),
        (section(lambda _: str(next(NUMBERS))), "says something else the second time"),
        (section(lambda _: "text", "two\nlines"), "the title should be one line of text"),
        (section(lambda _: "text", None), "the title should be one line of text, found None"),
        (section(crashes), "failed with KeyError: 'ranges'"),
    ],
)
def test_a_section_that_breaks_its_contract_is_found(
    kind: type[Section], message: str, compilation: Compilation
) -> None:
    with pytest.raises(PluginError, match=message) as caught:
        check_section(kind, compilation)
    assert caught.value.place == "section Telling"


def test_a_section_that_changes_the_network_is_found(compilation: Compilation) -> None:
    changed = attrs.evolve(compilation, graph=compilation.graph.clone())
    with pytest.raises(PluginError, match="changes the network"):
        check_section(section(drops), changed)
