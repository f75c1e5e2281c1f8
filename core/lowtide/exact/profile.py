"""Profiles: which of the known ways to compute with integers a device takes, operator by operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from lowtide.errors import OptionError, nearest

Requantize = Literal["double", "single", "float32", "shift", "reduced", "full"]


@attrs.frozen(kw_only=True)
class Profile:
    """Arithmetic by operator, by name.

    Attributes:
        name: how it is chosen.
        summary: what it reproduces.
        convolution: how accumulators of convolutions become codes: ``double`` or ``single`` rounding of a
            31-bit multiplier, ``float32`` multiplication, or ``shift``.
        dense: the same for products with matrices.
        wide: how accumulators of 64 bits, of layers with 16-bit activations, become codes where those of 32
            have a multiplier: ``reduced`` to 16 bits, or ``full`` with 31; both round once, ties up.
        product_in_float32: whether input scale times weight scale is rounded to float32 before it is divided
            by the output scale, for weights with one scale.
        addition: ``tflite`` 20 bits to the left and three multipliers; ``float32``; ``multiplier`` one per
            input with 16 bits; ``xnnpack`` the same with 21 bits of a ratio in float32.
        average: means under a window: ``division`` of integers, ties away from zero; ``float32``.
        mean: ``tflite`` a multiplier that contains the number of elements; ``division``; ``float32``.
        softmax: ``fixed-point`` as gemmlowp; ``float``.
        half: how real numbers become codes in tables and at borders: ties ``away`` from zero or to ``even``.
    """

    name: str
    summary: str
    convolution: Requantize
    dense: Requantize
    wide: Literal["reduced", "full"] = "full"
    product_in_float32: bool = False
    addition: Literal["tflite", "float32", "multiplier", "xnnpack"]
    average: Literal["division", "float32"] = "division"
    mean: Literal["tflite", "division", "float32"]
    softmax: Literal["fixed-point", "float"]
    half: Literal["away", "even"]


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="tflite",
            summary="the reference kernels of TensorFlow Lite",
            convolution="double",
            dense="single",
            wide="reduced",
            product_in_float32=True,
            addition="tflite",
            mean="tflite",
            softmax="fixed-point",
            half="away",
        ),
        Profile(
            name="float32",
            summary="the integer kernels of ONNX Runtime: one float32 multiplication",
            convolution="float32",
            dense="float32",
            addition="float32",
            average="float32",
            mean="float32",
            softmax="float",
            half="even",
        ),
        Profile(
            name="xnnpack",
            summary="the integer kernels of XNNPACK: as float32, but sums have multipliers of 21 bits",
            convolution="float32",
            dense="float32",
            addition="xnnpack",
            mean="float32",
            softmax="float",
            half="even",
        ),
        Profile(
            name="shift",
            summary="right shifts alone, ties up",
            convolution="shift",
            dense="shift",
            addition="multiplier",
            mean="division",
            softmax="float",
            half="even",
        ),
        Profile(
            name="multiplier",
            summary="31-bit multipliers, rounded twice, in products; 16-bit multipliers in sums",
            convolution="double",
            dense="double",
            addition="multiplier",
            mean="division",
            softmax="float",
            half="even",
        ),
    )
}
"""Every profile by name."""


def find_profile(name: str) -> Profile:
    """A profile by name.

    Raises:
        OptionError: when there is none.
    """
    if name not in PROFILES:
        raise OptionError(
            f"there is no arithmetic {name!r}", place="arithmetic", hint=nearest(name, PROFILES)
        )
    return PROFILES[name]
