"""What a compile is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from lowtide.calibrate import StatisticsCache
from lowtide.compiler.progress import Progress
from lowtide.data import Preprocess
from lowtide.ir import Graph
from lowtide.options import OptionLayer
from lowtide.passes import Pass
from lowtide.plugin import Registry


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

    model: Path | Graph
    target: str
    data: object = None
    frames: int | None = None
    labels: str | None = None
    options: Sequence[OptionLayer] = ()
    preprocess: Preprocess | None = None
    cache: StatisticsCache | None = None
    registry: Registry
    progress: Progress = attrs.field(factory=Progress)
    after_pass: Callable[[Pass, Graph], None] | None = None
