"""Whether frames were prepared as the network expects them: scale, mean, order of channels, layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from lowtide.calibrate.pipeline import in_order
from lowtide.data import Frame, Preprocess
from lowtide.doctor.candidates import Candidate, candidates
from lowtide.doctor.evidence import Evidence, evidence_of, judge
from lowtide.doctor.records import FrameFinding
from lowtide.errors import counted
from lowtide.ir import Array, Graph, Value

TRIED = 16
"""Frames that every candidate is tried on."""

KEPT, KEPT_ELEMENTS = 64, 1 << 24
"""Frames that the best candidates are tried on: at most so many, and not more elements than this."""

FINALISTS = 3

FEWEST = 4
"""Frames that it takes to tell a difference from chance."""

RATIO = 1.1
"""A candidate that is not better by this factor is not worth a change."""

TINY = 1 / 64
"""Frames whose elements are all below this were scaled down once too often, whatever the network is."""

ROUGH = 0.8
"""Pictures differ more from pixel to third pixel than to the next. In memory order the third element of
height, width, channels is the next pixel: below this ratio the layout is wrong."""

ALL = "all frames"


@attrs.frozen
class Image:
    """The network input that takes pictures.

    Attributes:
        axis: of the channels, 1 or 3.
    """

    name: str
    axis: int
    channels: int
    integers: bool


def image_input(graph: Graph) -> Image | None:
    """The first input with the shape of a picture of one or three channels."""
    for value in graph.inputs:
        shape = value.type.shape or ()
        if len(shape) == 4:
            for axis in (1, 3):
                if shape[axis] in {1, 3} and all((shape[other] or 0) > 4 for other in {1, 2, 3} - {axis}):
                    return Image(value.name, axis, int(shape[axis] or 1), _integers(value))
    return None


def _integers(value: Value) -> bool:
    return not value.type.dtype.is_float


def judge_preparation(
    original: Graph,
    prepared: Graph,
    frames: Sequence[Frame],
    preprocess: Preprocess | None,
    progress: Callable[[int, int | None], None],
) -> tuple[str, tuple[FrameFinding, ...]]:
    """Try other ways to prepare frames, and name the one that fits clearly better.

    Args:
        original: the network as imported.
        prepared: the float network that is quantized.
        frames: some of them.
        preprocess: how pictures became arrays; ``None`` where arrays are taken as they are.
        progress: told of candidates done.

    Returns:
        What the judgement rests on, and what was found.
    """
    image = image_input(prepared)
    if image is None:
        return "the network takes no pictures: scale, mean and order cannot be judged", ()
    certain = tuple(_model_free(image, frames))
    evidence = evidence_of(original, prepared)
    if evidence is None:
        rest = (
            "without batch normalization and class scores, nothing in the network tells scale, mean and order"
        )
        return rest, certain
    if len(frames) < FEWEST:
        return f"too few frames to judge scale, mean and order by: {len(frames)}", certain
    found = _best(evidence, image, frames, progress)
    basis = f"{evidence.words}, {counted(min(len(frames), evidence.most), 'frame')}"
    if found is None:
        return basis, certain
    chosen, before, after = found
    finding = FrameFinding(
        code="LT775",
        place=ALL,
        cause=f"{_cause(chosen)}: the network expects {chosen.words}",
        evidence=f"{evidence.words}: {after} instead of {before}",
        remedy=_remedy(chosen, image, preprocess),
    )
    return basis, (finding,)


def _best(
    evidence: Evidence, image: Image, frames: Sequence[Frame], progress: Callable[[int, int | None], None]
) -> tuple[Candidate, str, str] | None:
    """The candidate with the lowest cost, where that is clearly below that of the frames as they are.

    All are tried on a few frames, and the best of them and the frames as they are on more.
    """
    tried = candidates(image.channels, integers=image.integers)
    costs: list[float] = []
    for done, candidate in enumerate(tried, 1):
        costs.append(_cost(evidence, _observe(evidence, image, candidate, frames[:TRIED])))
        progress(done, len(tried))
    finalists = sorted(range(1, len(tried)), key=lambda at: costs[at])[:FINALISTS]
    seen = frames[: evidence.most]
    rows = {at: _observe(evidence, image, tried[at], seen) for at in (0, *finalists)}
    best = min(rows, key=lambda at: _cost(evidence, rows[at]))
    if best == 0 or not np.isfinite(rows[0]).all():
        return None
    verdict = judge(evidence, rows[0], rows[best], RATIO)
    if not verdict.clear:
        return None
    return tried[best], evidence.show(verdict.before), evidence.show(verdict.after)


def _cost(evidence: Evidence, rows: NDArray[np.float64]) -> float:
    return evidence.cost(rows) if np.isfinite(rows).all() else np.inf


def _observe(
    evidence: Evidence, image: Image, candidate: Candidate, frames: Sequence[Frame]
) -> NDArray[np.float64]:
    def run(frame: Frame) -> NDArray[np.float64]:
        feeds: Mapping[str, Array] = {
            **frame.feeds,
            image.name: candidate.apply(frame.feeds[image.name], image.axis),
        }
        return evidence.observe(list(evidence.session.run(feeds).values()))

    return np.stack([rows for _, rows in in_order(run, frames)])


def _cause(chosen: Candidate) -> str:
    parts = [
        *(["the layout is mixed up"] if chosen.relayout else []),
        *(["the channels are in the wrong order"] if chosen.reverse else []),
        *(["scale or mean is wrong"] if chosen.rescales else []),
    ]
    return " and ".join(parts)


def _remedy(chosen: Candidate, image: Image, preprocess: Preprocess | None) -> str:
    """The literal options where pictures are preprocessed here, else the expression for the arrays."""
    if preprocess is None or chosen.relayout:
        axis = ":, ::-1" if image.axis == 1 else "..., ::-1"
        expression = chosen.words.replace("x[reversed channels]", f"x[{axis}]")
        if chosen.relayout:
            order = (0, 3, 1, 2) if image.axis == 1 else (0, 2, 3, 1)
            return f"transpose the frames by {order} instead of reshaping them"
        return f"save the frames as {expression}{_constants(chosen)}"
    wanted = chosen.preprocess(preprocess)
    parts: list[str] = []
    if chosen.reverse:
        parts.append(
            f"preprocess: {{reverse_channels: {str(wanted.reverse_channels).lower()}}} in the --options file"
        )
    if chosen.rescales:
        parts += [f"--set input_mean={_listed(wanted.mean)}", f"--set input_scale={_listed(wanted.scale)}"]
    elif chosen.reverse and (len(set(preprocess.mean)) > 1 or len(set(preprocess.scale)) > 1):
        parts.append("mean and scale in the same order as the channels")
    return " ".join(parts)


def _constants(chosen: Candidate) -> str:
    if "mean" not in chosen.words and "deviation" not in chosen.words:
        return ""
    return ", with mean 0.485, 0.456, 0.406 and deviation 0.229, 0.224, 0.225"


def _listed(numbers: Sequence[float]) -> str:
    unique = numbers[:1] if len(set(numbers)) == 1 else numbers
    return ",".join(f"{number:.6g}" for number in unique)


def _model_free(image: Image, frames: Sequence[Frame]) -> list[FrameFinding]:
    """What pictures themselves tell."""
    found: list[FrameFinding] = []
    arrays = [frame.feeds[image.name] for frame in frames]
    if not arrays:
        return found
    largest = max(float(np.abs(array).max(initial=0)) for array in arrays)
    if not image.integers and 0 < largest < TINY:
        found.append(
            FrameFinding(
                code="LT775",
                place=ALL,
                cause="the numbers are tiny, as of pictures that were divided by 255 twice",
                evidence=f"the largest element of {counted(len(arrays), 'frame')} is {largest:.4g}",
                remedy="check the scale: input_scale of the options, or that of the arrays",
            )
        )
    if image.channels == 3:
        ratios = [_roughness(array, image.axis) for array in arrays]
        rough = sum(ratio < ROUGH for ratio in ratios)
        if 2 * rough > len(ratios):
            found.append(
                FrameFinding(
                    code="LT775",
                    place=ALL,
                    cause="the layout is mixed up: height, width, channels were reshaped, not transposed",
                    evidence=f"in {rough} of {counted(len(ratios), 'frame')} "
                    "the third element is closer than the next",
                    remedy="transpose the frames by "
                    f"{(0, 3, 1, 2) if image.axis == 1 else (0, 2, 3, 1)} instead of reshaping them",
                )
            )
    return found


def _roughness(array: Array, axis: int) -> float:
    """The mean difference between an element and the third one after it, over that to the next one."""
    rows = array.astype(np.float64).reshape(-1, array.shape[-1] if axis == 1 else array[0, 0].size)
    near = float(np.abs(rows[:, 1:] - rows[:, :-1]).mean())
    far = float(np.abs(rows[:, 3:] - rows[:, :-3]).mean())
    if axis == 3:  # in memory order of height, width, channels the third element is the next pixel
        return near / far if far else 1.0
    return far / near if near else 1.0
