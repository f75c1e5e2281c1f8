from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lowtide.ir import Graph, Value
from unit.passes_builtin.equivalence import PREPARE, Builder, check

BLOCKS = (
    "conv",
    "bn",
    "relu",
    "clip",
    "add",
    "residual",
    "pad",
    "transpose",
    "pool",
    "mul",
    "dropout",
    "reshape",
)
CHANNELS, SIZE = 2, 6


def grow(build: Builder, value: Value, earlier: list[Value], block: str, variant: int) -> Value:
    """One block, from `[1, C, H, W]` to `[1, C, H, W]` of any height and width."""
    match block:
        case "conv":
            pads = (variant % 2,) * 4 if variant else ()
            more = {"pads": pads} if pads else {"auto_pad": "SAME_UPPER"}
            group = 2 if variant == 3 else 1
            return build.node(
                "Conv", value, build.weights(CHANNELS, CHANNELS // group, 3, 3), group=group, **more
            )
        case "bn":
            return build.batch_norm(value, CHANNELS)
        case "relu":
            return build.node("Relu", value)
        case "clip":
            low = build.constant(float(variant - 1))
            return build.node("Clip", value, low, build.constant(6.0))
        case "add" | "mul":
            shape = ((), (CHANNELS, 1, 1), (1, CHANNELS, 1, 1), (1,))[variant]
            op = {"add": ("Add", "Sub"), "mul": ("Mul", "Div")}[block][variant % 2]
            return build.node(op, value, build.constant(build.random.uniform(0.5, 1.5, shape)))
        case "residual":
            fitting = [other for other in earlier if other.type.shape == value.type.shape]
            return build.node("Add", value, fitting[variant % len(fitting)])
        case "pad":
            return build.node("Pad", value, build.ints(0, 0, variant, 1, 0, 0, 0, variant))
        case "transpose":
            turned = build.node("Transpose", value, perm=(0, 2, 3, 1))
            inner = build.node("Relu", turned) if variant % 2 else turned
            return build.node("Transpose", inner, perm=(0, 3, 1, 2) if variant < 3 else (0, 3, 2, 1))
        case "pool":
            op = ("MaxPool", "AveragePool")[variant % 2]
            return build.node(op, value, kernel_shape=(3, 3), pads=(variant // 2,) * 4)
        case "dropout":
            return build.node("Dropout", value)
        case _:
            flat = build.node("Flatten", value)
            return build.node("Reshape", flat, build.ints(*value.type.static_shape))


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    build = Builder(draw(st.integers(0, 99)))
    values = [build.input(1, CHANNELS, SIZE, SIZE)]
    for _ in range(draw(st.integers(1, 8))):
        block, variant = draw(st.sampled_from(BLOCKS)), draw(st.integers(0, 3))
        value = values[-1]
        if block in {"conv", "pool"} and min(value.type.static_shape[2:]) < 3:
            continue
        made = grow(build, value, values, block, variant)
        build.done(made)
        values.append(made)
    extra = draw(st.sampled_from(values))
    outputs = [values[-1]] if extra.producer is None or extra is values[-1] else [values[-1], extra]
    if outputs[0].producer is None:
        outputs = [build.node("Relu", outputs[0])]
    return build.done(*outputs)


@settings(max_examples=80)
@given(networks())
def test_the_prepare_pipeline_keeps_outputs_and_their_names(graph: Graph) -> None:
    names = [value.name for value in graph.outputs]
    # A later pass may open a way for an earlier one, so that only single passes settle at once.
    check(graph, PREPARE, settles=False)
    assert [value.name for value in graph.outputs] == names


@settings(max_examples=60)
@given(networks(), st.sampled_from(sorted(set(PREPARE.split(",")))))
def test_every_pass_alone_keeps_outputs_and_settles(graph: Graph, name: str) -> None:
    check(graph, name)
