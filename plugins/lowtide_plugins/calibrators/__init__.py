"""Built-in statistics and calibrators."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import CalibratorSpec, StatisticSpec, hookimpl

_MODULE = "lowtide_plugins.calibrators"


@hookimpl
def lowtide_register_statistics() -> Iterable[StatisticSpec]:
    """Contribute what the built-in calibrators read."""
    return [
        StatisticSpec(
            name="minmax",
            summary="lowest and highest element of every channel over all frames",
            implementation="lowtide.calibrate.minmax:MinMax",
        ),
        StatisticSpec(
            name="moving-average",
            summary="running average of the extremes of every frame",
            implementation=f"{_MODULE}.moving_average:MovingAverageExtremes",
        ),
        StatisticSpec(
            name="histogram",
            summary="how often each value occurs, to 8 significant bits",
            implementation=f"{_MODULE}.histogram:Histogram",
        ),
    ]


@hookimpl
def lowtide_register_calibrators() -> Iterable[CalibratorSpec]:
    """Contribute what `accuracy_level` and users choose from."""
    return [
        CalibratorSpec(
            name="minmax",
            summary="lowest to highest element over all frames",
            implementation=f"{_MODULE}.minmax:MinMaxCalibrator",
        ),
        CalibratorSpec(
            name="moving-average",
            summary="running average of the lowest to that of the highest element of every frame",
            implementation=f"{_MODULE}.moving_average:MovingAverageCalibrator",
        ),
        CalibratorSpec(
            name="percentile",
            summary="all but a small share of the elements at both ends",
            implementation=f"{_MODULE}.percentile:PercentileCalibrator",
        ),
        CalibratorSpec(
            name="mse",
            summary="the least squared error of clipping and rounding",
            implementation=f"{_MODULE}.mse:MseCalibrator",
        ),
        CalibratorSpec(
            name="entropy",
            summary="the least information lost, by Kullback-Leibler divergence",
            implementation=f"{_MODULE}.entropy:EntropyCalibrator",
        ),
        CalibratorSpec(
            name="shift-aware",
            summary="as mse, at the scale that a power-of-two or shift-only rule makes of the range",
            implementation=f"{_MODULE}.shift_aware:ShiftAwareCalibrator",
        ),
    ]
