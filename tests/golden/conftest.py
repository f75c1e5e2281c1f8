"""Collects ``*.ir``: graphs as text, what to run on them, and what should come out.

The first line is ``// RUN: lowtide opt %s --passes "<pipeline>"``; without ``--passes`` the graph is only
read and printed. ``// -----`` splits the file into cases, each a test with ``// CHECK`` lines of its own,
named after its first comment. A case that is meant to fail has ``// CHECK: error[LT102] <place>: <message>``.
"""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from golden.filechecking import mismatch
from lowtide.errors import LowtideError
from lowtide.ir import parse_graph, print_graph
from lowtide.passes import PassContext, parse_pipeline, run_pipeline
from lowtide.plugin import PassSpec, Provider, Registry, discover

RUN = re.compile(r"// RUN: lowtide opt %s(?: --passes (?P<passes>.+))?")
SPLIT = "// -----\n"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix != ".ir":
        return None
    made: GoldenFile = GoldenFile.from_parent(parent, path=file_path)
    return made


class GoldenFile(pytest.File):
    """One file, all of whose cases have the same pipeline."""

    def collect(self) -> Iterator[pytest.Item]:
        text = self.path.read_text("utf-8")
        first, _, rest = text.partition("\n")
        command = RUN.fullmatch(first.strip())
        if command is None:
            raise self.CollectError(f"{self.path}: the first line should read {RUN.pattern}, found {first!r}")
        pipeline = " ".join(shlex.split(command["passes"] or ""))
        for number, case in enumerate(rest.split(SPLIT)):
            title = re.search(r"// (?!CHECK)(.+)", case)
            name = f"{number}: {title[1]}" if title else f"{number}"
            yield GoldenCase.from_parent(self, name=name, pipeline=pipeline, text=case)


class GoldenCase(pytest.Item):
    """One graph."""

    def __init__(self, *, pipeline: str, text: str, **rest: object) -> None:
        super().__init__(**rest)  # type: ignore[arg-type]  # what pytest hands from from_parent to the constructor
        self.pipeline = pipeline
        self.text = text

    def runtest(self) -> None:
        printed = run(self.text, self.pipeline)
        said = mismatch(self.text, printed)
        if said:
            pytest.fail(f"{said}\n--- output ---\n{printed}", pytrace=False)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.name}: {self.name}"


def run(text: str, pipeline: str) -> str:
    """What ``lowtide opt`` prints for one graph, or its error with the code in brackets."""
    try:
        graph = parse_graph(text)
        registry = plugins()
        run_pipeline(graph, parse_pipeline(pipeline, registry), PassContext(), registry=registry)
    except LowtideError as error:
        return f"error[{error.code}] {error.place}: {error.message}\n"
    return print_graph(graph)


def plugins() -> Registry:
    """All plugins that are installed; from a source tree that is not installed, those with passes."""
    registry = discover()
    if not registry.all(PassSpec):
        for module in ("lowtide_plugins.passes", "lowtide_plugins.weights"):
            registry.add_plugin(importlib.import_module(module), Provider("lowtide", "source tree", module))
    return registry
