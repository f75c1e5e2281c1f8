"""What several groups of tests share: the demo network and its data, and the outcome of a command."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import attrs

DEMO = Path(str(resources.files("lowtide_plugins.demo")))
MODEL = DEMO / "digits.onnx"
CALIBRATION = DEMO / "digits_calib.npz"
TEST = DEMO / "digits_test.npz"


@attrs.frozen
class Outcome:
    """Exit status and what was printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document that it should be."""
        return json.loads(self.out)


Run = Callable[..., Outcome]
