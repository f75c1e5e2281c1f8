"""The content of a quantization proto as plain records.

Source: the vendor's published description of the file, proto2 text format.
"""

from __future__ import annotations

import enum

import attrs

LARGEST = 3.4028234663852886e38
"""The largest float32. A minimum of -LARGEST or a maximum of LARGEST stands for "not calibrated"."""


class QuantType(enum.IntEnum):
    """Whether zero points exist."""

    SYMMETRIC = 1
    ASYMMETRIC = 2


class CalibType(enum.IntEnum):
    """Whether weights have one scale or one for each channel."""

    PERTENSOR = 1
    PERCHANNEL = 2


@attrs.frozen(kw_only=True)
class TensorParams:
    """One tensor.

    Attributes:
        min: the lowest real number, float32.
        max: the highest.
        size: how many scales there are; of a bias how many values.
        element_type: 0 for codes of 8 bits, 2 for codes of 16. The vendor's only published file has 0
            throughout and its description does not say more: the numbers are those of its data types.
        scale: codes per unit: the reciprocal of the scale in ONNX's sense.
        zero_point: of unsigned codes.
        value: a bias in real numbers.
    """

    min: float = -LARGEST
    max: float = LARGEST
    size: int = 0
    element_type: int = 0
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    value: tuple[float, ...] = ()


@attrs.frozen(kw_only=True)
class LayerParams:
    """One layer.

    Attributes:
        layer_name: the name of its last tensor.
        layer_type: as ``TIDL_ConvolutionLayer``.
        bit_depth: bytes of a code of its output; the published file has 1 for 8 bits.
    """

    layer_name: str
    layer_type: str = ""
    bit_depth: int = 8
    outputs: tuple[TensorParams, ...] = ()
    weights: tuple[TensorParams, ...] = ()
    bias: tuple[TensorParams, ...] = ()
    slope: tuple[TensorParams, ...] = ()


@attrs.frozen(kw_only=True)
class NetParams:
    """One part of a network that runs on the accelerator."""

    num_layers: int = 0
    quant_type: QuantType = QuantType.SYMMETRIC
    calib_type: CalibType = CalibType.PERTENSOR
    layers: tuple[LayerParams, ...] = ()
