"""Commands are run in a folder of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lowtide.cli import main
from support import CALIBRATION, MODEL, Outcome, Run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*arguments: object) -> Outcome:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Outcome(status, out, err)

    return call


@pytest.fixture
def compiled(run: Run, tmp_path: Path) -> Path:
    folder = tmp_path / "compiled"
    outcome = run(
        "compile", MODEL, "--target", "am68a", "--data", CALIBRATION, "--output", folder, "--frames", 20
    )
    assert outcome.status == 0, outcome.err
    return folder


@pytest.fixture
def frames() -> NDArray[Any]:
    with np.load(CALIBRATION) as arrays:
        found: NDArray[Any] = arrays["image"]
    return found
