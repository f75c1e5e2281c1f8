from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import attrs
import numpy as np
import pytest

from lowtide.calibrate import (
    Calibrator,
    Collected,
    MinMax,
    NumberFormat,
    Range,
    Statistic,
    calibrate,
    collect,
)
from lowtide.errors import PluginError, QuantizationError
from lowtide.ir import Graph
from lowtide.plugin import CalibratorSpec, Provider, Registry, hookimpl

EIGHT_BITS = NumberFormat(8, symmetric=True, power_of_two=False)


@attrs.frozen(kw_only=True)
class Fixed(Calibrator):
    """Returns what it was made with."""

    name: ClassVar[str] = "fixed"
    statistics: ClassVar[tuple[str, ...]] = ()
    answer: Any

    def range(self, statistics: Mapping[str, Statistic], fmt: NumberFormat) -> Range:
        del statistics, fmt
        found: Range = self.answer
        return found


@attrs.frozen(kw_only=True)
class Headroom(Calibrator):
    """A third party's calibrator: the observed range, widened."""

    name: ClassVar[str] = "headroom"
    statistics: ClassVar[tuple[str, ...]] = ("minmax",)
    factor: float = 1.25

    def range(self, statistics: Mapping[str, Statistic], fmt: NumberFormat) -> Range:
        seen = statistics["minmax"]
        assert isinstance(seen, MinMax)
        factor = 1.0 if fmt.power_of_two else self.factor
        return Range(seen.low * factor, seen.high * factor)


class HeadroomPlugin:
    """All that the third party's package contains besides."""

    @hookimpl
    def lowtide_register_calibrators(self) -> list[CalibratorSpec]:
        return [
            CalibratorSpec(name="headroom", summary="widened", implementation=f"{__name__}:Headroom"),
        ]


@pytest.fixture
def collected(network: Graph, source_of: Any) -> Collected:
    return collect(network, source_of(2), [])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Range(math.nan, 1.0), "finite range"),
        (Range(0.0, math.inf), "finite range"),
        (Range(2.0, 1.0), "min <= max"),
        (Range("low", 1.0), "two numbers"),  # type: ignore[arg-type]  # third parties are not checked
        (Range(0.0, np.array([1.0, 2.0])), "two numbers"),  # type: ignore[arg-type]
        (Range(None, 1.0), "two numbers"),  # type: ignore[arg-type]
        (None, "should return a Range"),
        ((0.0, 1.0), "should return a Range"),
    ],
)
def test_an_impossible_range_names_tensor_calibrator_and_provider(
    collected: Collected, answer: Any, words: str
) -> None:
    with pytest.raises(QuantizationError, match=rf"r1: the calibrator fixed of acme 1.0 .*{words}"):
        calibrate(collected, Fixed(answer=answer), {"r1": EIGHT_BITS}, provider="acme 1.0")


def test_without_a_provider_the_module_is_named(collected: Collected) -> None:
    with pytest.raises(QuantizationError, match=f"of {__name__}"):
        calibrate(collected, Fixed(answer=None), {"r1": EIGHT_BITS})


def test_the_ends_of_a_range_may_be_numbers_of_numpy(collected: Collected) -> None:
    answer: Any = Range(cast(Any, np.array(0.5)), cast(Any, np.float32(2)))
    assert calibrate(collected, Fixed(answer=answer), {"r1": EIGHT_BITS}) == {"r1": Range(0.5, 2.0)}


def test_a_calibrator_that_fails_is_named(collected: Collected) -> None:
    class Failing(Fixed):
        def range(self, statistics: Mapping[str, Statistic], fmt: NumberFormat) -> Range:
            del statistics, fmt
            raise ZeroDivisionError

    with pytest.raises(PluginError, match="failed with ZeroDivisionError") as caught:
        calibrate(collected, Failing(answer=None), {"r1": EIGHT_BITS}, provider="acme 1.0")
    assert caught.value.place == "the calibrator fixed of acme 1.0, tensor r1"


def test_a_calibrator_that_takes_other_arguments_is_named(collected: Collected) -> None:
    class Short(Fixed):
        def range(self, statistics: Mapping[str, Statistic]) -> Range:  # type: ignore[override]
            raise AssertionError(statistics)

    with pytest.raises(PluginError, match=r"the calibrator fixed of acme 1\.0, .* failed with TypeError"):
        calibrate(collected, Short(answer=None), {"r1": EIGHT_BITS}, provider="acme 1.0")


def test_what_a_calibrator_raises_on_purpose_passes(collected: Collected) -> None:
    class Refusing(Fixed):
        def range(self, statistics: Mapping[str, Statistic], fmt: NumberFormat) -> Range:
            del statistics, fmt
            raise QuantizationError("no range is good enough")

    with pytest.raises(QuantizationError, match="no range is good enough"):
        calibrate(collected, Refusing(answer=None), {"r1": EIGHT_BITS})


def test_an_empty_range_is_possible(collected: Collected) -> None:
    assert calibrate(collected, Fixed(answer=Range(0, 0)), {"r1": EIGHT_BITS}) == {"r1": Range(0.0, 0.0)}


def test_a_tensor_that_was_not_observed_is_named(collected: Collected) -> None:
    with pytest.raises(QuantizationError, match=r"score: this tensor was not observed .*did you mean scores"):
        calibrate(collected, Headroom(), {"score": EIGHT_BITS})


def test_a_statistic_that_was_not_collected_is_named(collected: Collected) -> None:
    class Other(Headroom):
        statistics = ("minmix",)

    with pytest.raises(QuantizationError, match=r"reads the statistic minmix, .*did you mean minmax"):
        calibrate(collected, Other(), {"r1": EIGHT_BITS})


def test_a_third_party_calibrator_is_found_by_name_and_sees_the_number_format(collected: Collected) -> None:
    registry = Registry()
    registry.add_plugin(HeadroomPlugin(), Provider("acme", "1.0", "acme"))
    calibrator: Calibrator = registry.load(CalibratorSpec, "headroom")()
    formats = {"r1": EIGHT_BITS, "c2": attrs.evolve(EIGHT_BITS, power_of_two=True)}
    ranges = calibrate(collected, calibrator, formats)
    r1, c2 = collected.minmax("r1"), collected.minmax("c2")
    wide = [float(np.float32(1.25 * end)) for end in (r1.low, r1.high)]  # as files store ranges
    assert ranges == {"r1": Range(*wide), "c2": Range(c2.low, c2.high)}
