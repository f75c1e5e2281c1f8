"""What a compile is asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
from attrs.validators import optional

from lowtide.calibrate import StatisticsCache
from lowtide.compiler.progress import Progress
from lowtide.data import Preprocess
from lowtide.errors import OptionError
from lowtide.ir import Graph, print_graph
from lowtide.options import OptionLayer
from lowtide.passes import Pass
from lowtide.plugin import Registry


def _is(kind: type, expected: str) -> Callable[[object, attrs.Attribute[Any], object], None]:
    """A validator that names the argument as a caller from Python knows it."""

    def check(_: object, argument: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, kind):
            raise OptionError(f"expected {expected}, found {type(value).__name__}", place=argument.name)

    return check


def _model(value: object) -> Path | Graph:
    if isinstance(value, Graph):
        return value
    if isinstance(value, str | os.PathLike):
        return Path(cast("str | os.PathLike[str]", value))
    raise OptionError(
        f"expected the path of a model file or a lowtide.Graph, found {type(value).__name__}",
        place="model",
        hint="save a model that is in memory to a file first",
    )


@attrs.frozen(kw_only=True)
class CompileRequest:
    """What the user asks for.

    Attributes:
        model: a model file, or a graph.
        target: name or alias of the device.
        data: calibration data, see `lowtide.data.open_data`; not needed when nothing is calibrated.
        frames: use this many evenly spread frames of the data.
        options: where options come from, the strongest last.
        preprocess: how images become arrays.
        cache: where statistics are kept between compiles; ``None`` keeps none.
        after_pass: called with every pass and the graph that it left.
    """

    model: Path | Graph = attrs.field(converter=_model)
    target: str = attrs.field(validator=_is(str, "the name of a device"))
    data: object = None
    frames: int | None = None
    labels: str | None = None
    options: Sequence[OptionLayer] = ()
    preprocess: Preprocess | None = attrs.field(
        default=None, validator=optional(_is(Preprocess, "a lowtide.Preprocess"))
    )
    cache: StatisticsCache | None = attrs.field(
        default=None, validator=optional(_is(StatisticsCache, "a lowtide.calibrate.StatisticsCache"))
    )
    registry: Registry
    progress: Progress = attrs.field(factory=Progress)
    after_pass: Callable[[Pass, Graph], None] | None = None


def model_digest(model: Path | Graph) -> str:
    """SHA-256 of a model file, or of the text form of a graph."""
    if isinstance(model, Graph):
        return hashlib.sha256(print_graph(model).encode()).hexdigest()
    with model.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
