"""What the fits of one layer promise, by themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowtide.ir import Array, DType, QuantParams, layers, parse_graph
from lowtide_plugins.weights.fit import Evidence, Window, products
from lowtide_plugins.weights.importance import output_gains
from lowtide_plugins.weights.scales import ScaleChoice
from lowtide_plugins.weights.sequence import LayerSequence
from unit.weights.benches import Bench, Maker, separable

SEEDS = st.integers(0, 2**32 - 1)


def evidence(seed: int, mixing: Array, window: Window, rows: int = 400) -> Evidence:
    """A layer that reads mixed inputs instead of the real ones."""
    generator = np.random.default_rng(seed)
    size = len(mixing)
    plain = generator.normal(0.5, 1.0, (1, rows, size)).astype(np.float32)
    fixed = (plain @ mixing).astype(np.float32)
    weights = generator.normal(size=(1, 3, size))
    target = products(plain, weights) + generator.normal(size=3).astype(np.float32)
    mean = fixed.mean(axis=1, dtype=np.float64)
    centred = (fixed - mean[:, np.newaxis]).astype(np.float64)
    moments = centred.transpose(0, 2, 1) @ centred / rows
    return Evidence(weights, target, fixed, mean, moments, window, has_bias=True)


@settings(max_examples=30)
@given(SEEDS)
def test_weights_undo_what_was_mixed_in_front(seed: int) -> None:
    size = 6
    mixing = np.eye(size) + 0.1 * np.random.default_rng(seed).normal(size=(size, size))
    found = evidence(seed, mixing, Window())
    made = found.least_squares(rounds=0)
    bias = found.bias_for(made, rounds=0)
    left = products(found.fixed, made) + bias[:, np.newaxis] - found.target
    kept_bias = found.bias_for(found.weights, rounds=0)
    kept = products(found.fixed, found.weights) + kept_bias[:, np.newaxis] - found.target
    assert np.square(left).mean() < np.square(kept).mean() / 10


def test_weights_stay_where_nothing_was_lost() -> None:
    found = evidence(1, np.eye(5), Window())
    np.testing.assert_allclose(found.least_squares(rounds=2), found.weights, atol=1e-4)


def test_few_rows_change_no_weights() -> None:
    found = evidence(1, np.eye(20) * 0.9, Window(), rows=40)
    assert found.least_squares(rounds=2) is found.weights


@settings(max_examples=30)
@given(SEEDS, st.integers(0, 5))
def test_more_rounds_do_not_raise_the_error_that_shows(seed: int, rounds: int) -> None:
    window = Window(0.0, 2.0)
    found = evidence(seed, np.eye(4) * 0.8, window)

    def shown(bias: Array) -> float:
        made = products(found.fixed, found.weights) + bias[:, np.newaxis]
        return float(np.square(np.clip(made, 0, 2) - np.clip(found.target, 0, 2)).sum())

    def missed(bias: Array) -> float:
        made = products(found.fixed, found.weights) + bias[:, np.newaxis].astype(np.float32)
        return float(np.square(np.clip(made, *window.alike(found.target)) - made).sum(dtype=np.float64))

    few, more = (found.bias_for(found.weights, rounds=count) for count in (rounds, rounds + 1))
    assert missed(more) <= missed(few) * (1 + 1e-4) + 1e-4
    assert shown(more) <= missed(more) * (1 + 1e-4) + 1e-4


@given(
    st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=20),
    st.lists(st.floats(-4, 4, width=32), min_size=20, max_size=20),
)
def test_the_nearest_target_looks_the_same_and_is_no_farther(first: list[float], second: list[float]) -> None:
    window = Window(0.0, 1.5)
    target, present = np.array(first), np.array(second[: len(first)])
    made = np.clip(present, *window.alike(target))
    assert np.array_equal(np.clip(made, 0, 1.5), np.clip(target, 0, 1.5))
    assert (np.abs(made - present) <= np.abs(target - present)).all()


@settings(max_examples=40)
@given(SEEDS, st.booleans(), st.booleans(), st.booleans())
def test_a_chosen_scale_is_never_worse_than_the_present_one(
    seed: int, per_channel: bool, shift: bool, split: bool
) -> None:
    generator = np.random.default_rng(seed)
    outputs, size = 4, 7
    wanted = generator.standard_t(1.5, size=(1, outputs, size))
    vectors = generator.normal(size=(50, size))
    moments = (vectors.T @ vectors / 50)[np.newaxis]
    top = np.abs(wanted[0]).max(axis=1 if per_channel else None)
    scale = tuple(np.atleast_1d(2.0 ** np.ceil(np.log2(top)) / 128 if shift else top / 127).tolist())
    quant = QuantParams(DType.INT8, scale, 0, 0 if per_channel else None)
    choice = ScaleChoice(
        wanted=wanted,
        moments=moments,
        gains=generator.uniform(0.1, 2.0, (1, outputs)),
        bias=np.zeros((1, outputs)),
        quant=quant,
        input_scale=0.25,
        low=-128,
        shift=shift,
        split=split,
        halvings=5,
    )

    def energy(scales: tuple[float, ...]) -> Array:
        steps = np.broadcast_to(np.array(scales), (outputs,)).reshape(1, -1, 1)
        codes = np.clip(np.rint(wanted / steps), -128, 127)
        error = codes * steps - wanted
        made = np.einsum("gok,gkl,gol->go", error, moments, error)
        accumulator = 0.25 * steps[..., 0]
        return np.asarray(made + accumulator**2 / 12 if split else made)

    found = choice.scales()
    assert len(found) == len(scale)
    assert all(mine <= old * (1 + 1e-6) for mine, old in zip(found, scale, strict=True))
    after, before = (energy(scales) * choice.gains for scales in (found, quant.scale))
    assert after.sum() <= before.sum() * (1 + 1e-4)


@pytest.mark.parametrize("gain", [1.0, 0.0])
def test_no_scale_falls_below_what_the_bias_needs(gain: float) -> None:
    wanted = np.array([[[0.01, 0.02, 1.0], [0.01, 0.02, 0.0]]])
    choice = ScaleChoice(
        wanted=wanted,
        moments=np.diag([1.0, 1.0, 1e-9])[np.newaxis],
        gains=np.array([[gain, 1.0]]),
        bias=np.array([[100.0, 0.0]]),
        quant=QuantParams(DType.INT8, 1 / 128, 0),
        input_scale=0.5,
        low=-128,
        shift=True,
        split=True,
        halvings=8,
    )
    (scale,) = choice.scales()
    assert 100.0 / (0.5 * scale) <= 127 * 255
    assert 100.0 / (0.5 * scale / 2) > 127 * 255


def test_gains_are_the_power_that_noise_in_a_channel_gives_at_the_outputs() -> None:
    make = Maker(np.random.default_rng(0))
    x = make.input(1, 3, 6, 6)
    first = make.conv(x, 4, 3)
    deep = make.conv(first, 4, 3, depthwise=True)
    added = make.node("Add", [deep, first])
    graph = make.done(make.conv(added, 5))
    from lowtide.runtime import Session, to_model

    session = Session(to_model(graph, quantized=False))
    (rest,) = session.run({"x": np.zeros((1, 3, 6, 6), np.float32)}).values()
    for channel in range(3):
        # One element in the middle, which borders do not cut; independent elements add up.
        impulse = np.zeros((1, 3, 6, 6), np.float32)
        impulse[0, channel, 3, 3] = 1
        (made,) = session.run({"x": impulse}).values()
        deep_gain = output_gains(graph)[x.name][channel]
        power = float(np.square(made - rest).sum())
        # The two ways through the sum are taken as independent, which they are not here.
        assert deep_gain == pytest.approx(power, rel=1.0)
    last = graph.nodes[-1].value(1).constant
    assert last is not None
    squares = np.square(last.array()).sum(axis=(0, 2, 3))
    np.testing.assert_allclose(output_gains(graph)[added.name], squares, rtol=1e-5)
    alone = graph.nodes[1].value(1).constant
    assert alone is not None
    through = np.square(alone.array()).sum(axis=(1, 2, 3)) * squares + squares
    np.testing.assert_allclose(output_gains(graph)[first.name], through, rtol=1e-5)


@pytest.mark.parametrize("memory", [0, 64])
def test_layers_one_by_one_compute_what_the_networks_do(memory: int) -> None:
    bench = Bench(separable(7), frames=3)
    from lowtide.exact import ExactSession
    from lowtide.ir import layers
    from lowtide.runtime import Session, dequantize, to_model

    names = [layer.output.name for layer in layers(bench.graph)]
    products = {layer.nodes[0].output.name: 10**6 for layer in layers(bench.graph) if layer.op == "Conv"}
    plain = Session(to_model(bench.reference, quantized=False, outputs=list(products)))
    fixed = ExactSession(bench.graph, bench.device.profile, codes=names)
    seen: list[str] = []
    with LayerSequence(
        bench.reference, bench.graph, bench.device, bench.frames, products, memory
    ) as sequence:
        for layer in sequence.walk():
            made = layer.nodes[0].output
            if made.name in products:
                every = [np.moveaxis(plain.run(feed)[made.name], 1, -1) for feed in bench.feeds]
                rows = np.concatenate([array.reshape(-1, array.shape[-1]) for array in every])
                np.testing.assert_allclose(sequence.target(made), rows, atol=1e-5)
            for value in layer.inputs:
                if value.name not in names:
                    continue
                seen.append(value.name)
                for number, feed in enumerate(bench.feeds):
                    assert value.type.quant is not None
                    codes = fixed.run_codes(feed)[1][value.name]
                    expected = dequantize(codes, value.type.quant)
                    assert np.array_equal(sequence.fixed(value, number), expected)
    assert seen == names[:-1]


SILU = parse_graph("""graph "gate" {
  input %x: float32[1, 1, 2, 2]
  const %w: float32[1, 1, 1, 1] = fill(1.0)
  %y: float32[1, 1, 2, 2] = Conv(%x, %w)
  %g: float32[1, 1, 2, 2] = Sigmoid(%y)
  %z: float32[1, 1, 2, 2] = Mul(%y, %g)
  %t: float32[1, 1, 2, 2] = Conv(%z, %w)
  %u: float32[1, 1, 2, 2] = Tanh(%t)
  return %u
}""")


def test_sums_count_as_far_as_what_reads_them_tells_them_apart() -> None:
    found = {layer.name: Window.of(layer) for layer in layers(SILU)}
    assert (found["y"].low, found["y"].high) == (-6.0, np.inf)
    assert (found["t"].low, found["t"].high) == (-3.0, 3.0)


def test_channels_that_share_the_factor_of_biases_stay_where_it_holds_them_all() -> None:
    choice = ScaleChoice(
        wanted=np.array([[[1.0]], [[0.01]]]),
        moments=np.ones((2, 1, 1)),
        gains=np.ones((2, 1)),
        bias=np.array([[0.03], [0.03]]),
        quant=QuantParams("int8", (1 / 127, 1 / 127), 0, 0),
        input_scale=0.01,
        low=-128,
        shift=True,
        split=True,
        halvings=6,
    )
    scales = np.array(choice.scales())
    assert scales[1] < scales[0]
    assert (0.03 / (0.01 * scales)).max() <= 127 * 255
