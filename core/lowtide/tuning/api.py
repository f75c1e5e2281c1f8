"""The Python entry point."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import attrs

from lowtide.calibrate import StatisticsCache
from lowtide.compiler.api import layers_of
from lowtide.compiler.output import VERSIONED, SavedOutput, check_free, load_output
from lowtide.compiler.progress import Progress
from lowtide.compiler.request import CompileRequest, model_digest
from lowtide.compiler.stages import Compilation
from lowtide.data import DataSource, Preprocess
from lowtide.data.source import evenly_spread
from lowtide.diagnostics import Diagnostic
from lowtide.errors import DataError, OptionError, counted, nearest
from lowtide.ir import Graph
from lowtide.measure import Metric
from lowtide.measure.gates import check_direction
from lowtide.narrow import is_mapping, is_sequence
from lowtide.options import FIELDS, OptionLayer, resolve_options
from lowtide.plugin import MetricSpec, Registry, discover
from lowtide.target import Rung, Target, load_target
from lowtide.tuning.goal import ERROR, PLACE, Goal, parse_goal
from lowtide.tuning.judge import Judge, allowed
from lowtide.tuning.record import Record, Tried, digest, load_record
from lowtide.tuning.search import ORIGIN, DeadlineProgress, Search

FEWEST = 8
"""Frames without which nothing can be set aside."""

MOST_ASIDE = 256
"""Frames that are set aside at most: a share of them is then known to 3 points."""

FRAMES = "calibration_frames"


@attrs.frozen(kw_only=True)
class TuneResult:
    """The outcome.

    Attributes:
        folder: with the best result.
        goal: what was to be reached.
        reached: whether it was.
        end: why the search ended, in words.
        float_metric: the metric of the float network on the frames that were set aside.
        frames: how many frames were learned from, and set aside.
        budget: latency by that of 8 bits; ``None`` for no limit.
        tried: all configurations in order; the last that was kept is the best.
        notes: on the frames that were set aside: what their labels are, and whether they can be trusted.
    """

    folder: Path
    goal: Goal
    reached: bool
    end: str
    float_metric: float
    frames: tuple[int, int]
    budget: float | None
    tried: tuple[Tried, ...]
    notes: tuple[Diagnostic, ...] = ()

    @property
    def best(self) -> Tried:
        """The configuration in the folder."""
        return next(entry for entry in reversed(self.tried) if entry.kept)

    @property
    def output(self) -> SavedOutput:
        """The best result, read from the folder."""
        return load_output(self.folder)


def tune(
    model: str | Path | Graph,
    *,
    target: str,
    data: object,
    output: str | Path = "out",
    goal: str | None = None,
    budget: float | None = None,
    time_budget: float | None = None,
    frames: int | None = None,
    labels: str | None = None,
    options: Mapping[str, object] | Sequence[OptionLayer] | None = None,
    preprocess: Preprocess | None = None,
    cache: StatisticsCache | None = None,
    registry: Registry | None = None,
    progress: Progress | None = None,
    force: bool = False,
    stopped: Callable[[], bool] = bool,
) -> TuneResult:
    """Try the ladder of a device, keep what frames set aside approve of, leave the best in a folder.

    Args:
        model: a model file, or a graph.
        target: name or alias of the device.
        data: frames, see `lowtide.compile`; a part of them is set aside.
        output: where the best result goes, as soon as there is one. A folder with a record of the same model,
            device, data and options is continued.
        goal: ``METRIC>=X`` or ``METRIC>=float-X``, also with ``and sqnr>=X``; by default the first of the
            device that the data allows.
        budget: the most latency, as a multiple of that of 8 bits.
        time_budget: seconds of wall time; the first configuration is finished in any case.
        frames: how many frames to learn from; by default half of them.
        labels: where labels are, for data that does not bring them.
        options: options by name, or several layers, the strongest last; no rung changes what they set.
        preprocess: how images become arrays.
        cache: where statistics are kept.
        registry: the plugins.
        progress: hears of stages and frames.
        force: start over in a folder that holds something else.
        stopped: asked between two configurations whether the user has interrupted.

    Raises:
        LowtideError: for whatever is wrong with the input, naming the place and a remedy.
        KeyboardInterrupt: when the user interrupts; the folder holds the best result so far.
    """
    begin, folder, found = time.monotonic(), Path(output), registry or discover()
    given = layers_of(options)
    watched = DeadlineProgress(progress or Progress(), None if time_budget is None else begin + time_budget)
    request = CompileRequest(
        model=model,
        target=target,
        data=data,
        labels=labels,
        options=given,
        preprocess=preprocess,
        cache=cache,
        registry=found,
        progress=watched,
    )
    device = load_target(target, found)
    metrics = [spec.name for spec in found.all(MetricSpec)]
    wanted = None if goal is None else parse_goal(goal, metrics)
    _check(device, budget, time_budget)
    ladder = _ladder(device, given)
    if isinstance(data, Iterator):  # every configuration reads it anew
        request = attrs.evolve(request, data=list(cast(Iterator[object], data)))
    parts = _Parts.of(request, frames)
    request = attrs.evolve(request, options=[*given, OptionLayer(ORIGIN, {FRAMES: parts.learned})])
    wanted = wanted or _default_goal(device, parts, found, metrics)
    metric: type[Metric] = found.load(MetricSpec, wanted.metric)
    for condition in wanted.conditions:
        better = "higher" if condition.gate.name == ERROR else metric.better
        check_direction(condition.gate, better, place=f"{PLACE} {condition}")
    key = _key(parts, device, request, wanted)
    record = None if force else load_record(folder, key)
    check_free(folder, force=force or record is not None)
    record = record or Record(key=key)
    record.head = {
        "goal": str(wanted),
        "metric": wanted.metric,
        "frames": {"learned_from": parts.learned, "set_aside": parts.aside.count},
        "budget": budget,
    }
    search = Search(
        request=request,
        ladder=ladder,
        goal=wanted,
        judge=Judge(
            metric=metric,
            frames=attrs.evolve(parts.aside, diagnostics=record.notes),
            progress=watched.advance,
        ),
        record=record,
        folder=folder,
        budget=budget,
        progress=watched,
        options_file=lambda chosen: _options_file(request, chosen),
        stopped=stopped,
    )
    search.run()
    search.finish()
    assert search.figures is not None  # noqa: S101 - the first rung succeeds or raises
    assert record.float_metric is not None  # noqa: S101 - measured with the first rung
    return TuneResult(
        folder=folder,
        goal=wanted,
        reached=wanted.met(search.figures.metric, record.float_metric, search.figures.sqnr_db),
        end=search.end,
        float_metric=record.float_metric,
        frames=(parts.learned, parts.aside.count or 0),
        budget=budget,
        tried=tuple(record.tried),
        notes=tuple(record.notes),
    )


@attrs.frozen
class _Parts:
    """The frames in two parts, and the float network that takes them.

    Attributes:
        learned: how many frames are learned from: so many evenly spread ones.
        aside: the frames that are set aside; all of them when there are too few.
    """

    reference: Graph
    whole: DataSource
    learned: int
    aside: DataSource

    @classmethod
    def of(cls, request: CompileRequest, frames: int | None) -> _Parts:
        """Import the network and divide the frames.

        Raises:
            OptionError: for a number of frames below one.
            DataError: when no frame is left to be set aside.
        """
        c = Compilation.begin(attrs.evolve(request, frames=frames))
        c.import_model()
        c.prepare()
        c.open_frames()
        assert c.source is not None  # noqa: S101 - data is required
        whole = attrs.evolve(c.source, positions=None)
        every = whole.select(1 << 62)
        count = every.count or 0
        wanted = frames or c.options.calibration_frames
        if count < FEWEST and wanted is None:
            return cls(c.reference, whole, count, every)
        learned = wanted or count - count // 2
        taken = set(evenly_spread(count, learned))
        rest = tuple(position for position in range(count) if position not in taken)
        if not rest:
            raise DataError(
                f"{counted(count, 'frame')} given, {learned} to be learned from: none is left to judge with",
                place=whole.describe(),
                hint=f"--frames {max(1, count // 2)}",
            )
        aside = attrs.evolve(whole, positions=rest).select(MOST_ASIDE)
        return cls(c.reference, whole, learned, aside)


def _check(target: Target, budget: float | None, time_budget: float | None) -> None:
    if budget is not None and not (math.isfinite(budget) and budget >= 1):
        raise OptionError(
            f"expected a multiple of the latency of 8 bits, 1 or more, found {budget:g}", place="--budget"
        )
    if budget is not None and target.latency is None:
        raise OptionError(
            f"there is no latency model of {target.name}", place="--budget", hint="leave the budget out"
        )
    if time_budget is not None and not time_budget > 0:
        raise OptionError(f"expected seconds, found {time_budget:g}", place="--time-budget")
    if not target.tune.ladder:
        raise OptionError(
            f"{target.name} has no ladder of configurations",
            place=f"target {target.name}: tune.ladder",
            hint="extend the device with a [tune] table",
        )


def _ladder(target: Target, given: Sequence[OptionLayer]) -> tuple[Rung, ...]:
    """The ladder without what the user decides.

    Raises:
        OptionError: when a rung sets an option that does not exist.
    """
    resolved = resolve_options(given)
    decided = {_short(option.key) for option in resolved.effective if option.origin != "default"}
    known = {_short(info.key) for info in FIELDS.values()}
    rungs: list[Rung] = []
    for number, rung in enumerate(target.tune.ladder):
        for key in rung.options:
            if _short(key) not in known:
                place = f"target {target.name}: tune.ladder.{number}.options"
                raise OptionError(f"there is no option {key!r}", place=place, hint=nearest(key, known))
        own = {key: value for key, value in rung.options.items() if _short(key) not in decided}
        if own or not rungs:
            rungs.append(Rung(step=rung.step, options=own))
    return tuple(rungs)


def _short(key: str) -> str:
    """The key of an option without its prefix."""
    return key.rpartition(":")[2]


def _default_goal(target: Target, parts: _Parts, registry: Registry, metrics: Sequence[str]) -> Goal:
    """The first goal of the device whose metric takes the frames.

    Raises:
        OptionError: when there is none.
    """
    for text in target.tune.goals:
        goal = parse_goal(text, metrics, place=f"target {target.name}: tune.goals")
        if allowed(registry.load(MetricSpec, goal.metric), parts.reference, parts.aside):
            return goal
    raise OptionError("the device has no goal for this data", place=PLACE, hint=f"{PLACE} 'sqnr>=30'")


def _key(parts: _Parts, target: Target, request: CompileRequest, goal: Goal) -> dict[str, str | None]:
    resolved = resolve_options(request.options)
    values = {option.key: str(option.value) for option in resolved.effective}
    return {
        "model": model_digest(request.model),
        "data": parts.whole.fingerprint(),
        "device": digest([target.name, repr(target)]),
        "options": digest([values, repr(request.preprocess)]),
        "metric": goal.metric,
        "versions": digest({name: metadata.version(name) for name in VERSIONED}),
    }


def _options_file(request: CompileRequest, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """All that was set, as an options file that gives the same compile."""
    resolved = resolve_options(request.options)
    found = {option.key: _plain(option.value) for option in resolved.effective if option.origin != "default"}
    keys = {_short(info.key): info.key for info in FIELDS.values()}
    found |= {keys[_short(key)]: _plain(value) for key, value in chosen.items()}
    described = request.preprocess
    if described is not None and described != Preprocess():
        found["preprocess"] = described.as_mapping()
    return found


def _plain(value: Any) -> Any:
    """A value of an option as YAML has it."""
    if is_mapping(value):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if is_sequence(value) else value
