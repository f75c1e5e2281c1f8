"""The oracle of a compile: measures widths on calibration frames, with as few runs as it can."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import attrs

from lowtide.compiler.attempt import Attempt, Workbench
from lowtide.compiler.held_out import MOST
from lowtide.compiler.journal import Journal
from lowtide.compiler.mixture import Item, Mixture, Run, items_of
from lowtide.compiler.noise import Outputs, error_of, output_vector, shortened
from lowtide.compiler.recipe import Recipe, Settings
from lowtide.compiler.run import session_of
from lowtide.compiler.trials import Trial, grouped, improved
from lowtide.data import DataSource
from lowtide.errors import DataError
from lowtide.ir import Array, print_graph
from lowtide.measure import judged
from lowtide.precision import Oracle, PrecisionPlan, PrecisionProblem, Sensitivities, widest_plan
from lowtide.runtime import WORKERS, Runner, Session, in_flight, to_model
from lowtide.version import VERSION

if TYPE_CHECKING:
    from lowtide.compiler.stages import Compilation

T = TypeVar("T")
R = TypeVar("R")

SWEEP = 4.0
"""What a round of sensitivities may cost in runs of the network for each calibration frame."""

FORMAT = 5
"""Raised when the entries of journals change their meaning."""


@attrs.frozen
class _Ground:
    """What variants are made of under the settings in force, and the journal of their errors.

    Attributes:
        settings: those of the 8-bit network.
        swept: the frames of a round of sensitivities.
        asked: questions that are counted already.
    """

    settings: Settings
    mixture: Mixture
    items: tuple[Item, ...]
    journal: Journal
    swept: DataSource
    asked: set[str] = attrs.field(factory=set[str])


class MeasuringOracle(Oracle):
    """Mixes two networks that the recipe made, see `lowtide.compiler.mixture`.

    The 8-bit one is what the recipe makes of it, with the corrections of weights that it would try first even
    where none was kept, since what helps a network that is lost anyway says little. `settle` replaces this by
    what helps a plan; where that is the same, what was measured before holds.

    Args:
        c: the compile, which has frames.
        bench: makes networks.
        recipe: what it does and tries.
        problem: the network and its classes.
        known: replaces widths that nobody may choose.
    """

    def __init__(
        self,
        c: Compilation,
        bench: Workbench,
        recipe: Recipe,
        problem: PrecisionProblem,
        known: Callable[[PrecisionPlan], PrecisionPlan],
    ) -> None:
        self.c = c
        self.bench = bench
        self.recipe = recipe
        self.narrow = known(problem.uniform(8))
        self.wide = known(widest_plan(problem))
        self._problem = problem
        self._asked = 0.0
        self._plain: tuple[Attempt, list[Trial]] | None = None
        self._settled: tuple[Settings, list[Trial]] | None = None
        self._ground: _Ground | None = None
        self._finished: dict[str, tuple[Attempt, list[Trial]]] = {}
        self._learned: dict[str, float] = {}
        self._counted: set[str] = set()
        self._plans_settled: list[str] = []
        self._references: dict[object, Outputs] = {}
        self._referred: set[object] = set()

    # --- what strategies ask ---

    def error(self, plan: PrecisionPlan) -> float:
        """See `Oracle.error`."""
        ground, source = self._prepared(), self._search_frames()
        key = f"error {digest_of(plan)}"
        known = ground.journal.number(key)
        if known is None:
            session = Session(to_model(ground.mixture.graph(plan), quantized=True))
            known = self._error(session, source)
            ground.journal.put(key, known)
        self._ask(ground, key, source)
        return known

    def sensitivities(self, around: PrecisionPlan | None = None) -> Sensitivities:
        """See `Oracle.sensitivities`."""
        ground, plan = self._prepared(), around or self.wide
        prefix = f"around {digest_of(plan)}"
        journal = ground.journal
        todo = [item for item in ground.items if journal.vector(f"{prefix} effect of {item}") is None]
        if todo or journal.number(prefix) is None:
            with self.c.clock.stage("search: sensitivities"):
                self._sweep(ground, plan, todo, prefix)
        each = 1 + math.fsum(item.share for item in ground.items)
        self._ask(ground, prefix, ground.swept, (ground.swept.count or 0) * each)
        base = journal.number(prefix) or 0.0
        found: dict[str, dict[str, float]] = {"activations": {}, "weights": {}}
        effects: dict[tuple[str, str], Array] = {}
        for item in ground.items:
            other = journal.number(f"{prefix} {item}") or 0.0
            effect = journal.vector(f"{prefix} effect of {item}")
            found[item.kind][item.name] = other - base if item.is_wide(plan) else base - other
            if effect is not None:
                effects[item.kind, item.name] = effect
        return Sensitivities(found["activations"], found["weights"], effects)

    def settle(self, plan: PrecisionPlan) -> None:
        """See `Oracle.settle`."""
        narrow, before = self._eight_bits()
        settings = attrs.evolve(self.recipe.settings, condition=narrow.settings.condition)
        steps = [step for step in self.recipe.trials if step.stage != "condition"]
        runs, held_out = len(self.bench.runs), self.bench.held_out
        compared = held_out.runs if held_out is not None else 0
        begun = self.bench.quantize(narrow.base, settings, plan)
        attempt, trials = improved(self.c, self.bench, begun, steps)
        self._plans_settled.append(digest_of(plan))
        self._asked += (held_out.runs if held_out is not None else 0) - compared
        self._asked += self._since(runs)
        conditioned = [trial for trial in before if trial.step.startswith("condition ")]
        if attempt.settings != (self._settled or (narrow.settings,))[0]:
            self._finished.clear()
            self._learned.clear()
        self._settled = attempt.settings, [*conditioned, *trials]
        self._finished[digest_of(plan)] = attempt, self._settled[1]
        if self._ground is not None and self._ground.settings != attempt.settings:
            self._ground = None

    def measured(self, plan: PrecisionPlan) -> float:
        """See `Oracle.measured`."""
        ground, source = self._prepared(), self._judges()
        journal = ground.journal
        settings = (self._settled or (self._eight_bits()[0].settings,))[0]
        digest = digest_of(plan)
        key = f"finished {digest} {settings}"
        # What has to be learned for a plan depends on those for which the recipe has worked before.
        cost = f"{key} runs behind {_digest(' '.join(self._plans_settled))}"
        known, learned = journal.number(key), journal.number(cost)
        if known is None or learned is None or digest in self._finished:
            attempt, _ = self.finished(plan)
            learned = self._learned.get(digest, 0.0)
            if known is None:
                with self.c.clock.stage("search: compare"):
                    graph, device = judged(attempt.graph), self.bench.device(attempt.base)
                    known = self._error(session_of(graph, "exact", device), source)
                journal.put(key, known)
            if journal.number(cost) is None:
                journal.put(cost, learned)
        self._ask(ground, key, source)
        self._learn(digest, settings, learned)
        return known

    def interrupted(self) -> None:
        """See `Oracle.interrupted`."""
        self.c.interrupted = True
        self.c.diagnostics.warning(
            "LT887",
            self.c.options.chosen_strategy,
            "the search for widths was interrupted: the best plan that was measured so far is taken, and 8 "
            "bits if there is none",
            "the same compile goes on from there, unless the cache is off",
        )

    @property
    def passes(self) -> float:
        """See `Oracle.passes`."""
        return self._asked / self._every

    @property
    def _every(self) -> int:
        return max(self._source().select(1 << 62).count or 1, 1)

    # --- what the compile asks ---

    @property
    def asked(self) -> bool:
        """Whether a strategy has asked anything."""
        return self._plain is not None

    def finished(self, plan: PrecisionPlan) -> tuple[Attempt, list[Trial]]:
        """The network of a plan, and the steps of the recipe that were tried for it."""
        digest = digest_of(plan)
        if digest not in self._finished:
            narrow, tried = self._eight_bits()
            if plan.same_widths(self.narrow):
                self._finished[digest] = narrow, tried
            else:
                settings, tried = self._settled or (narrow.settings, tried)
                before = len(self.bench.runs)
                # A search that goes on after an interrupt finishes fewer plans, and counts as if it were one.
                attempt = self.bench.quantize(narrow.base, settings, plan, remember=False)
                self._finished[digest] = attempt, tried
                self._learned[digest] = self._since(before)
                self._learn(digest, settings, self._learned[digest])
        attempt, trials = self._finished[digest]
        return attrs.evolve(attempt, plan=plan), trials

    # --- networks ---

    def _eight_bits(self) -> tuple[Attempt, list[Trial]]:
        """The best that the recipe makes without a wider tensor."""
        if self._plain is None:
            settings = self.recipe.settings
            begun = self.bench.quantize(self.bench.condition(settings.condition), settings, self.narrow)
            self._plain = improved(self.c, self.bench, begun, self.recipe.trials)
        return self._plain

    def _prepared(self) -> _Ground:
        if self._ground is None:
            attempt, tried = self._eight_bits()
            before = len(self.bench.runs)
            if self._settled is None:
                narrow = self._corrected(attempt, tried)
            elif self._settled[0] == attempt.settings:
                narrow = attempt
            else:
                narrow = self.bench.quantize(attempt.base, self._settled[0], self.narrow)
            settings = attrs.evolve(narrow.settings, weights="")
            wide = self.bench.quantize(attempt.base, settings, self.wide)
            self._asked += self._since(before)
            mixture = Mixture(judged(narrow.graph), judged(wide.graph), self.bench.device(attempt.base))
            journal = Journal(self._journal_file(narrow, wide), self.c.diagnostics)
            items = items_of(mixture, self._problem, self.narrow, self.wide)
            self._ground = _Ground(narrow.settings, mixture, items, journal, self._swept(items))
        return self._ground

    def _corrected(self, attempt: Attempt, tried: Sequence[Trial]) -> Attempt:
        """The same with the first correction of weights of those of which the recipe kept none."""
        kept = {trial.step for trial in tried if trial.kept}
        for group in grouped(self.recipe.trials):
            if group[0].stage == "weights" and kept.isdisjoint(map(str, group)):
                attempt = self.bench.extend(attempt, group[0].text)
        return attempt

    def _journal_file(self, narrow: Attempt, wide: Attempt) -> Path | None:
        cache = self.c.request.cache
        # Finished networks are measured on other frames than widths where an option says so, and which
        # frames passes learn from depends on whether the recipe tries anything.
        sources = (self._search_frames(), self._judges(), self._source())
        prints = [found for source in sources if (found := source.fingerprint()) is not None]
        if cache is None or len(prints) < len(sources):
            return None
        graphs = (print_graph(graph) for graph in (self.c.prepared, narrow.graph, wide.graph))
        device = self.bench.device(narrow.base)
        rounding = f"{device.profile} {sorted(device.on_host)}"
        key = _digest("\n".join((str(FORMAT), VERSION, *prints, rounding, *graphs)))
        return cache.folder / "search" / key[:2] / f"{key}.jsonl"

    # --- runs ---

    def _source(self) -> DataSource:
        if self.c.source is None:
            raise DataError("a search for widths measures, and no calibration data is given", hint="--data")
        return self.c.source

    def _judges(self) -> DataSource:
        """The frames that no pass has learned from, where the recipe holds some out."""
        held_out = self.bench.held_out
        return (self._source() if held_out is None else held_out.frames).select(MOST)

    def _search_frames(self) -> DataSource:
        """The same, unless an option wants fewer or more."""
        judges, wanted = self._judges(), self.c.options.search_frames
        if wanted is None or wanted <= (judges.count or 0):
            return judges if wanted is None else judges.select(wanted)
        return self._source().select(wanted)

    def _swept(self, items: Sequence[Item]) -> DataSource:
        """As many of the search frames as a round of sensitivities may cost."""
        source = self._search_frames()
        affordable = SWEEP * self._every / max(math.fsum(item.share for item in items), 1.0)
        return source.select(max(1, min(source.count or 1, int(affordable))))

    def _since(self, before: int) -> float:
        """Runs that passes took, but for some before: the same number whatever those were."""
        return math.fsum(self.bench.runs[before:])

    def _ask(self, ground: _Ground, question: str, source: DataSource, runs: float | None = None) -> None:
        """Count a question as if nothing of it had been known; it is answered once.

        Args:
            ground: what is asked.
            question: what tells it from others.
            source: the frames, which the float network runs before the first question on them.
            runs: of the quantized network; by default one for each of the frames.
        """
        if question in ground.asked:
            return
        ground.asked.add(question)
        count = source.count or 0
        if source.positions not in self._referred:
            self._referred.add(source.positions)
            self._asked += count
        self._asked += count if runs is None else runs

    def _learn(self, digest: str, settings: Settings, runs: float) -> None:
        """Count what passes took to finish a plan, once, whether it was measured or only made."""
        key = f"{digest} {settings}"
        if key not in self._counted:
            self._counted.add(key)
            self._asked += runs

    def _sweep(self, ground: _Ground, plan: PrecisionPlan, todo: Sequence[Item], prefix: str) -> None:
        source = ground.swept
        reference = self._reference(source)
        base = Run(ground.mixture, plan, [frame.feeds for frame in source.frames()])
        own = output_vector(
            reference, [{name: found[name] for name in ground.mixture.outputs} for found in base.values]
        )
        ground.journal.put(prefix, error_of(own))

        def measure(item: Item) -> tuple[float, Array]:
            other = output_vector(reference, base.varied(item.flipped(plan), item.behind))
            return error_of(other), shortened(other - own if item.is_wide(plan) else own - other)

        for number, (item, (error, effect)) in enumerate(_in_parallel(todo, measure)):
            ground.journal.put(f"{prefix} {item}", error)
            ground.journal.put(f"{prefix} effect of {item}", effect)
            self.c.clock.progress.advance(number + 1, len(todo))

    def _error(self, session: Runner, source: DataSource) -> float:
        found = [outputs for _, outputs in in_flight(session, source.frames(), lambda frame: frame.feeds)]
        return error_of(output_vector(self._reference(source), found))

    def _reference(self, source: DataSource) -> Outputs:
        """The outputs of the float network."""
        if source.positions not in self._references:
            graph = judged(self.c.prepared)
            session = Session(to_model(graph, quantized=False))
            found = in_flight(session, source.frames(), lambda frame: frame.feeds)
            names = [value.name for value in graph.outputs]
            outputs = [dict(zip(names, results.values(), strict=True)) for _, results in found]
            self._references[source.positions] = outputs
        return self._references[source.positions]


def digest_of(plan: PrecisionPlan) -> str:
    """SHA-256 of the widths."""
    return _digest(repr((sorted(plan.activations.items()), sorted(plan.weights.items()))))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _in_parallel(items: Iterable[T], measure: Callable[[T], R]) -> Iterator[tuple[T, R]]:
    """Results of items in their order, two at work at a time."""
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting: deque[tuple[T, Future[R]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(measure, item)))
                if len(waiting) > WORKERS:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
