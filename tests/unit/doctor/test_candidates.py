"""What is tried on frames, and the options that would do the same to pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from lowtide.data import Preprocess
from lowtide.doctor.candidates import Candidate, candidates

GIVEN = (
    Preprocess(),
    Preprocess(mean=(123.675, 116.28, 103.53), scale=(0.017, 0.0175, 0.0174)),
    Preprocess(mean=(127.5,), scale=(1 / 127.5,), reverse_channels=True),
    Preprocess(scale=(1 / 255,)),
)


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("candidate", candidates(3, integers=False), ids=lambda entry: entry.words)
def test_the_preprocessing_of_a_candidate_gives_its_numbers(candidate: Candidate, given: Preprocess) -> None:
    if candidate.relayout:
        pytest.skip("no preprocessing does that to pictures")
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    layout = Preprocess.from_mapping({"data_layout": "NCHW"}).layout
    before = _with(given, layout).apply(image)[None]
    after = _with(candidate.preprocess(given), layout).apply(image)[None]
    expected = candidate.apply(before, 1)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(after, expected, atol=1e-4 * scale, rtol=1e-4)


def _with(given: Preprocess, layout: Any) -> Preprocess:
    import attrs

    return attrs.evolve(given, layout=layout)


@pytest.mark.parametrize("candidate", candidates(3, integers=False), ids=lambda entry: entry.words)
def test_both_layouts_are_treated_alike(candidate: Candidate) -> None:
    if candidate.relayout:
        pytest.skip("the elements in memory are what it is about")
    frame = np.random.default_rng(1).random((1, 3, 4, 5), np.float32)
    last = candidate.apply(np.ascontiguousarray(frame.transpose(0, 2, 3, 1)), 3)
    np.testing.assert_allclose(last.transpose(0, 3, 1, 2), candidate.apply(frame, 1))


def test_another_layout_undoes_a_reshape() -> None:
    right = np.arange(60, dtype=np.float32).reshape(1, 3, 4, 5)
    mixed = np.ascontiguousarray(right.transpose(0, 2, 3, 1)).reshape(1, 3, 4, 5)
    (turned, _) = [entry for entry in candidates(3, integers=False) if entry.relayout]
    assert np.array_equal(turned.apply(mixed, 1), right)


def test_the_first_candidate_changes_nothing_and_integers_are_not_scaled() -> None:
    for channels in (1, 3):
        tried = candidates(channels, integers=False)
        assert tried[0].identity
        assert not any(entry.identity for entry in tried[1:])
        assert len({entry.words for entry in tried}) == len(tried)
    assert not any(entry.rescales for entry in candidates(3, integers=True))
    assert not any(entry.reverse or entry.relayout for entry in candidates(1, integers=False))
