"""Lowtide: an open, plugin-based post-training-quantization compiler for edge accelerators."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lowtide.calibrate import Calibrator, NumberFormat, Range, Statistic
    from lowtide.compiler.api import compile  # noqa: A004 - the name of the function is the product's verb
    from lowtide.compiler.output import load_output
    from lowtide.compiler.result import CompileResult
    from lowtide.data import Preprocess
    from lowtide.errors import LowtideError
    from lowtide.ir import Graph
    from lowtide.passes import Pass, PassContext, PassOutcome
    from lowtide.plugin import discover, hookimpl
    from lowtide.tuning.api import tune
    from lowtide.version import VERSION as __version__  # noqa: N811 - the name that Python expects

__all__ = [
    "Calibrator",
    "CompileResult",
    "Graph",
    "LowtideError",
    "NumberFormat",
    "Pass",
    "PassContext",
    "PassOutcome",
    "Preprocess",
    "Range",
    "Statistic",
    "__version__",
    "compile",
    "discover",
    "hookimpl",
    "load_output",
    "tune",
]

_HOMES = {
    "Calibrator": "lowtide.calibrate",
    "CompileResult": "lowtide.compiler.result",
    "Graph": "lowtide.ir",
    "LowtideError": "lowtide.errors",
    "NumberFormat": "lowtide.calibrate",
    "Pass": "lowtide.passes",
    "PassContext": "lowtide.passes",
    "PassOutcome": "lowtide.passes",
    "Preprocess": "lowtide.data",
    "Range": "lowtide.calibrate",
    "Statistic": "lowtide.calibrate",
    "compile": "lowtide.compiler.api",
    "discover": "lowtide.plugin",
    "hookimpl": "lowtide.plugin",
    "load_output": "lowtide.compiler.output",
    "tune": "lowtide.tuning.api",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> object:
    # Names are imported when they are used, so that `lowtide --help` and plugin discovery do not load onnx.
    if name == "__version__":
        return importlib.import_module("lowtide.version").VERSION
    if name not in _HOMES:
        raise AttributeError(f"module 'lowtide' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
