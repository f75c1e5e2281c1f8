"""What an accuracy level does: steps that choose the calibrator and fill the pipelines, some on trial."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast

import attrs

from lowtide.errors import OptionError, nearest, noted
from lowtide.options import CompileOptions
from lowtide.passes import parse_configured, parse_pipeline
from lowtide.plugin import CalibratorSpec, Registry

Stage = Literal["structure", "calibrator", "condition", "scales", "weights"]
STAGES: tuple[Stage, ...] = ("structure", "condition", "calibrator", "scales", "weights")
"""In the order in which they take effect."""

_STEP = re.compile(r"(?:if (?P<flag>\w+) )?(?P<verb>use|try|else) (?P<stage>\w+) (?P<text>\S.*)")
PLACE = "recipe"
"""The option that a recipe may be written out in."""
EXAMPLE = "try weights correct-bias"


@attrs.frozen
class Settings:
    """A calibrator, and the texts of the pipelines that follow it."""

    calibrator: str = ""
    condition: str = ""
    scales: str = ""
    weights: str = ""
    structure: str = ""

    def with_step(self, stage: Stage, text: str) -> Settings:
        """What a step makes of them: a calibrator is replaced, passes are added at the end of a pipeline."""
        before = getattr(self, stage)
        if stage == "calibrator" or not before:
            return attrs.evolve(self, **{stage: text})
        return attrs.evolve(self, **{stage: f"{before},{text}"})


@attrs.frozen
class Step:
    """One line of a recipe.

    Attributes:
        tried: whether it is kept only if the error on held-out frames falls.
        stage: what it changes.
        text: a calibrator, or passes.
        flag: the option that switches it on; empty when nothing does.
        otherwise: whether it is tried only where the step before it was not kept.
    """

    tried: bool
    stage: Stage
    text: str
    flag: str = ""
    otherwise: bool = False

    def __str__(self) -> str:
        return f"{self.stage} {self.text}"


@attrs.frozen
class Recipe:
    """What is certain, and what is tried in this order."""

    settings: Settings
    trials: tuple[Step, ...] = ()

    def calibrators(self) -> tuple[str, ...]:
        """Every calibrator that may be asked."""
        tried = (step.text for step in self.trials if step.stage == "calibrator")
        return tuple(dict.fromkeys((self.settings.calibrator, *tried)))

    def without(self, stage: Stage) -> Recipe:
        """The same without passes of a stage."""
        settings = attrs.evolve(self.settings, **{stage: ""})
        return Recipe(settings, tuple(step for step in self.trials if step.stage != stage))


def parse_step(text: str, *, place: str = PLACE) -> Step:
    """Read ``[if OPTION] use|try|else STAGE TEXT``; the place is for messages.

    Raises:
        OptionError: when it is none.
    """
    found = _STEP.fullmatch(text.strip())
    if found is None or found["stage"] not in STAGES:
        raise OptionError(
            f"expected use, try or else, then {', '.join(STAGES)}, then a calibrator or passes; "
            f"found {text!r}",
            place=place,
            hint=f"as in {EXAMPLE!r}",
        )
    flags = [field.name for field in attrs.fields(CompileOptions)]
    if found["flag"] and found["flag"] not in flags:
        raise OptionError(
            f"there is no option {found['flag']!r}", place=place, hint=nearest(found["flag"], flags)
        )
    return Step(
        found["verb"] != "use",
        cast(Stage, found["stage"]),
        found["text"],
        found["flag"] or "",
        found["verb"] == "else",
    )


def recipe_of(lines: Iterable[str], options: CompileOptions, *, place: str = PLACE) -> Recipe:
    """The recipe that lines make under the options; what an option sets, no step changes.

    Args:
        lines: its steps.
        options: what the user set.
        place: where the lines come from, for messages.

    Raises:
        OptionError: for a line that is no step, or when nothing names a calibrator.
    """
    settings = Settings(**{stage: getattr(options, stage) or "" for stage in STAGES})
    given = {stage for stage in STAGES if getattr(options, stage) is not None}
    trials: list[Step] = []
    follows = False  # whether the step that an `else` belongs to is there
    for step in (parse_step(line, place=place) for line in lines):
        follows = follows and step.otherwise
        if step.stage in given or (step.flag and not getattr(options, step.flag)):
            continue
        if step.tried:
            trials.append(attrs.evolve(step, otherwise=follows))
            follows = True
        else:
            settings = settings.with_step(step.stage, step.text)
    if not settings.calibrator:
        raise OptionError("no step names a calibrator", place=place, hint="use calibrator minmax")
    return Recipe(settings, tuple(trials))


def chosen_lines(recipes: Mapping[str, Sequence[str]], options: CompileOptions) -> Sequence[str]:
    """The lines of the recipe that the options choose by name, or write out, separated by semicolons.

    Args:
        recipes: those of the target, by name.
        options: ``recipe``, or the accuracy level, chooses.

    Raises:
        OptionError: for a name that the target does not have.
    """
    name = options.recipe or str(options.accuracy_level)
    if name in recipes:
        return recipes[name]
    if " " in name:
        return name.split(";")
    place = PLACE if options.recipe else "accuracy_level"
    raise OptionError(f"the device has no recipe {name!r}", place=place, hint=nearest(name, recipes))


def recipe_place(target: str, recipes: Iterable[str], options: CompileOptions) -> str:
    """Where `chosen_lines` finds its lines, for messages: in a device's description or in the option."""
    name = options.recipe or str(options.accuracy_level)
    return target_place(target, name) if name in recipes else PLACE


def target_place(target: str, name: str) -> str:
    """Where a recipe of a device is, for messages."""
    return f"target {target}: recipes.{name}"


def check_recipe(
    recipe: Recipe, registry: Registry, options: CompileOptions | None = None, *, place: str = PLACE
) -> None:
    """Find wrong names and options before any work begins.

    Args:
        recipe: what to check.
        registry: provides calibrators and passes.
        options: what the user set, which is not blamed on the recipe.
        place: where the lines of the recipe come from, for messages.

    Raises:
        UnknownNameError: for a calibrator or pass that nobody provides.
        PipelineError: for an option that it does not have.
    """
    for stage in STAGES:
        by_user = options is not None and getattr(options, stage) is not None
        texts = [getattr(recipe.settings, stage), *(s.text for s in recipe.trials if s.stage == stage)]
        for text in texts:
            with noted(f"in the option {stage}" if by_user else f"in stage {stage} of {place}"):
                if stage == "calibrator":
                    parse_configured(text, registry, CalibratorSpec)
                else:
                    parse_pipeline(text, registry)
