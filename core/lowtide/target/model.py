"""What a device can do, as frozen data; `lowtide.target.load` reads it from TOML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from lowtide.ir import DType

SCHEMA_VERSION = 1
"""The version of the description format; a file says which one it is written in."""

OperatorKind = Literal["mac", "same-codes", "elementwise", "pool", "table", "norm", "float"]
"""How an operator handles numbers.

``mac``: multiply-accumulate with constant weights (Conv, ConvTranspose, Gemm, MatMul with a constant).
``same-codes``: writes the codes that it reads; input and output share parameters (Reshape, MaxPool, Concat).
``elementwise``: arithmetic on inputs with scales of their own (Add, Mul, Relu by itself).
``pool``: sums and averages (AveragePool, GlobalAveragePool, ReduceMean).
``table``: a function of one code (Sigmoid, Tanh, HardSwish).
``norm``: normalization inside which numbers are wider (LayerNormalization).
``float``: reads codes and writes float (Softmax on the vendor's devices) or indices (ArgMax).
"""


@attrs.frozen(kw_only=True)
class ScaleRule:
    """How scales are derived from ranges; one for each ``quantization_scale_type``.

    Attributes:
        name: for reports, as ``power-of-two``.
        activation: ``symmetric`` has signed codes, or unsigned ones for tensors that never go below zero;
            ``asymmetric`` has a zero point, where the operators on both sides of a tensor allow it.
        activation_dtype: the 8-bit type of asymmetric codes.
        activation_scale: ``free``; ``power-of-two``; or ``accumulator``, that of the accumulator times a
            power of two.
        zero_points: under an asymmetric rule, at the operators that are ``listed`` as such, or
            ``everywhere``.
        weight_scale: ``free`` or ``power-of-two``.
        weight_granularity: ``per-tensor``; ``per-channel``; ``per-channel-depthwise`` where the user switches
            it on.
        weight_codes: ``narrow`` divides by 2^(b-1) - 1 so that none saturates; ``full`` divides by 2^(b-1).
        requantize: how an accumulator becomes a code: ``shift``, ``multiplier`` (fixed point, rounded as
            TFLite does), or ``float32`` (one float32 multiplication, rounded half to even, as ONNX Runtime
            does).
        arithmetic: how integers are rounded, a profile of `lowtide.exact`; by default that of the same name
            as `requantize`.
    """

    name: str
    activation: Literal["symmetric", "asymmetric"]
    activation_dtype: DType = DType.UINT8
    activation_scale: Literal["free", "power-of-two", "accumulator"] = "free"
    zero_points: Literal["listed", "everywhere"] = "listed"
    weight_scale: Literal["free", "power-of-two"] = "free"
    weight_granularity: Literal["per-tensor", "per-channel", "per-channel-depthwise"] = "per-tensor"
    weight_codes: Literal["narrow", "full"] = "narrow"
    requantize: Literal["shift", "multiplier", "float32"] = "multiplier"
    arithmetic: str = attrs.field(default=attrs.Factory(lambda rule: rule.requantize, takes_self=True))


@attrs.frozen(kw_only=True)
class Constraint:
    """A condition that a node must meet to run on the accelerator.

    Attributes:
        require: an expression over the facts of the node, see `lowtide.target.constraints`.
        reason: why the device cannot take a node that fails it.
        hint: how to rewrite such a node; may be empty.
        bits: the widths that it holds for; empty for all.
    """

    require: str
    reason: str
    hint: str = ""
    bits: tuple[int, ...] = ()


@attrs.frozen(kw_only=True)
class OperatorRule:
    """How the device treats one ONNX operator.

    Attributes:
        kind: see `OperatorKind`.
        layer_type: the vendor's name of the layer; empty where there is none.
        asymmetric: whether its activations may have a zero point under an asymmetric scale rule.
        asymmetric_needs_constant: whether that holds only when its second operand is constant.
        per_channel: whether its weights may have a scale per output channel under such a rule.
        changes_bits: whether input, output and parameters may have different widths.
        constraints: conditions beyond the operator's name.
    """

    kind: OperatorKind
    layer_type: str = ""
    asymmetric: bool = False
    asymmetric_needs_constant: bool = False
    per_channel: bool = False
    changes_bits: bool = False
    constraints: tuple[Constraint, ...] = ()


@attrs.frozen(kw_only=True)
class BiasFormat:
    """How biases are stored, by operand width in bits.

    Attributes:
        bits: width of the stored bias that is added to the accumulator of 8-bit operands.
        split: whether it is an 8-bit code times an 8-bit multiplier instead of one integer.
        accumulator_bits: width of the accumulator by operand width, keys as text since TOML has no others.
    """

    bits: int = 32
    split: bool = False
    accumulator_bits: Mapping[str, int] = attrs.field(factory=lambda: {"8": 32, "16": 64})


@attrs.frozen(kw_only=True)
class LatencyData:
    """How the time of a layer is estimated.

    Attributes:
        model: name of the latency model.
        stated_error: mean relative error of its figures, as a fraction, on networks that they were not fitted
            on; ``None`` where they were not held against measured times.
        options: what the model asks of a device.
    """

    model: str
    stated_error: float | None = None
    options: Mapping[str, int | float | str] = attrs.field(factory=dict[str, int | float | str])


@attrs.frozen(kw_only=True)
class Rung:
    """One configuration of a ladder.

    Attributes:
        step: what it is about, in a few words; several rungs may share it.
        options: options on top of the best configuration so far. ``budget`` as the value of an option stands
            for the latency budget that the user gives; without one the rung is left out.
    """

    step: str
    options: Mapping[str, int | float | str]


@attrs.frozen(kw_only=True)
class TuneData:
    """What ``lowtide tune`` tries on a device.

    Attributes:
        goals: when to stop if the user does not say; the first whose metric the data allows.
        ladder: what is tried, from cheap to expensive.
    """

    goals: tuple[str, ...] = ()
    ladder: tuple[Rung, ...] = ()


@attrs.frozen(kw_only=True)
class Target:
    """A device.

    Attributes:
        name: how it is selected.
        title: how its maker calls it.
        vendor_layers: whether layers have the vendor's type names and the vendor's files are written.
        scale_rules: by the number of ``quantization_scale_type``.
        default_scale_type: what is used when the user says nothing.
        refused_scale_types: numbers that exist but not here, each with the reason and what to use instead.
        bits: widths that tensors may have.
        keeps_codes: whether a network that is quantized already runs as it is: signed or unsigned codes,
            float layers between quantized ones, any requantization.
        max_subgraphs: how many separate parts of a network the accelerator takes.
        cores: how many cores the accelerator has, ``None`` where that is not known.
        operators: by ONNX name; an operator that is not listed runs on the host.
        input_asymmetric: whether network inputs may have a zero point.
        prepare: default pipeline that makes the graph ready, as text.
        recipes: steps from the prepared network to the quantized one, by accuracy level or another name, see
            `lowtide.compiler.recipe`.
        tune: what is tried for the best accuracy.
        latency: how the time of a layer is estimated, ``None`` for a device of which that is not known.
        option_defaults: options whose default differs on this device.
        notes: what else a user of the device should know, in sentences.
    """

    name: str
    title: str
    summary: str
    vendor_layers: bool = False
    scale_rules: Mapping[int, ScaleRule]
    default_scale_type: int
    refused_scale_types: Mapping[int, str] = attrs.field(factory=dict[int, str])
    bits: tuple[int, ...] = (8, 16)
    bias: BiasFormat = attrs.field(factory=BiasFormat)
    keeps_codes: bool = False
    max_subgraphs: int = 16
    cores: int | None = None
    operators: Mapping[str, OperatorRule]
    input_asymmetric: bool = False
    prepare: str
    recipes: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict[str, "tuple[str, ...]"])
    tune: TuneData = attrs.field(factory=TuneData)
    latency: LatencyData | None = None
    option_defaults: Mapping[str, int | float | str] = attrs.field(factory=dict[str, int | float | str])
    notes: tuple[str, ...] = ()
