"""Fit the roofline of the vendor's devices to published times, and tell how far it is off.

    PYTHONPATH=tests python tests/benchmarks/latency_fit.py [--family tidl|tidl-256]

Devices of one family share their parameters; the fit is that of least squares of the logarithms of predicted
by published times, from the figures in the description of the family. Printed are the parameters as lines for
its file, and for every device the mean relative error: of the fit, and leaving one out, where a network is
predicted by parameters that were fitted without any of its times, on whatever device. The second one is what
the devices state.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping, Sequence

import attrs
import numpy as np
from scipy.optimize import least_squares

from latency_nets import NETWORKS
from latency_nets.published import Published, Stopwatch, published, wrong_order

FAMILIES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "tidl": (
        ("tda4vm", "am68a", "am69a"),
        ("efficiency", "depthwise_rate", "ddr_gbps", "spill", "layer_us"),
    ),
    # Depthwise layers wait for the memory there, so that their rate cannot be told.
    "tidl-256": (("am62a", "am67a"), ("efficiency", "ddr_gbps", "spill", "layer_us")),
}
"""By family: its devices, and the parameters that are fitted."""


def fit(
    rows: Sequence[Published], free: Sequence[str], start: Mapping[str, float], watch: Stopwatch
) -> dict[str, float]:
    """The parameters that suit some times best."""

    def residuals(logs: Iterable[float]) -> list[float]:
        options = dict(zip(free, map(math.exp, logs), strict=True))
        return [math.log(watch.ms(row.device, row.network, options) / row.ms) for row in rows]

    found = least_squares(residuals, [math.log(start[name]) for name in free], diff_step=1e-3, max_nfev=30)
    return dict(zip(free, map(math.exp, found.x), strict=True))


def left_out(
    rows: Sequence[Published], free: Sequence[str], start: Mapping[str, float], watch: Stopwatch
) -> dict[Published, float]:
    """The prediction of every time by the others' parameters."""
    predicted: dict[Published, float] = {}
    for network in sorted({row.network for row in rows}):
        options = fit([row for row in rows if row.network != network], free, start, watch)
        for row in rows:
            if row.network == network:
                predicted[row] = watch.ms(row.device, network, options)
    return predicted


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", choices=sorted(FAMILIES), action="append")
    watch = Stopwatch()
    for family in parser.parse_args().family or FAMILIES:
        devices, free = FAMILIES[family]
        rows = [row for row in published() if row.device in devices and not row.left_out]
        start = {name: float(value) for name, value in attrs.asdict(watch.model(devices[0])).items()}
        options = fit(rows, free, start, watch)
        alone = left_out(rows, free, options, watch)
        print(f"# {family}.toml, [latency.options]: {len(free)} parameters, {len(rows)} times")
        print("\n".join(f"{name} = {value:.4g}" for name, value in options.items()))
        for device in devices:
            show(device, [row for row in rows if row.device == device], options, alone, watch)


def show(
    device: str,
    rows: Sequence[Published],
    options: Mapping[str, float],
    alone: Mapping[Published, float],
    watch: Stopwatch,
) -> None:
    fitted = {row: watch.ms(row.device, row.network, options) for row in rows}
    errors = [np.mean([abs(found[row] / row.ms - 1) for row in rows]) for found in (fitted, alone)]
    print(f"\n{device}: {len(rows)} times, fit {errors[0]:.1%}, one left out {errors[1]:.1%}")
    print(f"  {'network':26}{'GMAC':>7}{'published':>11}{'fit':>8}{'':7}{'left out':>9}")
    for row in sorted(rows, key=lambda row: row.ms):
        shares = [found[row] / row.ms - 1 for found in (fitted, alone)]
        figures = f"{NETWORKS[row.network][1]:7.3f}{row.ms:11.2f}{fitted[row]:8.2f}"
        print(f"  {row.network:26}{figures}{shares[0]:+7.0%}{shares[1]:+9.0%}")
    for faster, slower in wrong_order(fitted):
        print(f"  wrong order: {faster.network} should be faster than {slower.network}")


if __name__ == "__main__":
    main()
