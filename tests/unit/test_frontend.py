"""A file is read by the one frontend that claims it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest

from lowtide.errors import AmbiguousFrontendError, ModelError, UnknownNameError, UnsupportedModelError
from lowtide.frontend import Frontend, ImportRequest, load_model
from lowtide.ir import Graph
from lowtide.plugin import FrontendSpec, Provider, Registry


@attrs.frozen
class Reader(Frontend):
    """Makes a graph of the name that the file contains, or fails as the file asks."""

    def load(self, path: Path, request: ImportRequest) -> Graph:
        text = path.read_text("utf-8")
        if text == "crash":
            raise IndexError("list index out of range")
        if text == "leave":
            raise SystemExit("no license found")
        if text == "refuse":
            raise UnsupportedModelError("no loops", place="Loop body")
        request.diagnostics.info("LT451", "here", text)
        return Graph(text)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setitem(sys.modules, "acme_reader", SimpleNamespace(Reader=Reader))
    made = Registry()
    for name, suffixes in (("one", (".one", ".both")), ("two", (".two", ".both"))):
        spec = FrontendSpec(
            name=name, summary="a format", implementation="acme_reader:Reader", suffixes=suffixes
        )
        made.add(spec, Provider("acme", "1", name))
    return made


def written(folder: Path, name: str, text: str = "net") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("name", ["model.one", "MODEL.TWO"])
def test_the_suffix_chooses_the_frontend(registry: Registry, tmp_path: Path, name: str) -> None:
    request = ImportRequest()
    assert load_model(written(tmp_path, name), registry, request).name == "net"
    assert [found.message for found in request.diagnostics] == ["net"]


def test_two_frontends_for_one_suffix_are_both_named(registry: Registry, tmp_path: Path) -> None:
    path = written(tmp_path, "model.both")
    with pytest.raises(AmbiguousFrontendError, match=r"one of acme 1 \(one\), two of acme 1 \(two\)"):
        load_model(path, registry, ImportRequest())
    assert load_model(path, registry, ImportRequest(), frontend="two").name == "net"


@pytest.mark.parametrize(
    ("name", "message"), [("model.xyz", r"no frontend reads \.xyz"), ("model", "files without a suffix")]
)
def test_an_unknown_suffix_lists_the_known_ones(
    registry: Registry, tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(AmbiguousFrontendError, match=message) as caught:
        load_model(written(tmp_path, name), registry, ImportRequest())
    assert caught.value.hint == "known suffixes: .both, .one, .two; choose with --frontend"


def test_a_missing_file_and_an_unknown_frontend_are_refused(registry: Registry, tmp_path: Path) -> None:
    for path in (tmp_path / "none.one", tmp_path):
        with pytest.raises(ModelError, match="there is no such file"):
            load_model(path, registry, ImportRequest())
    with pytest.raises(UnknownNameError, match="known: one, two"):
        load_model(written(tmp_path, "m.one"), registry, ImportRequest(), frontend="tflite")


@pytest.mark.parametrize(
    ("text", "message"), [("crash", "IndexError: list index"), ("leave", "SystemExit: no license found")]
)
def test_a_frontend_that_crashes_is_an_error_of_the_model(
    registry: Registry, tmp_path: Path, text: str, message: str
) -> None:
    path = written(tmp_path, "m.one", text)
    with pytest.raises(ModelError, match=f"the frontend one failed: {message}") as caught:
        load_model(path, registry, ImportRequest())
    assert caught.value.place == str(path)


def test_a_refusal_of_a_frontend_comes_through(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="Loop body: no loops"):
        load_model(written(tmp_path, "m.one", "refuse"), registry, ImportRequest())
