"""What is known before calibration: merged, checked, used."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import attrs
import numpy as np
import pytest

import lowtide
from lowtide.calibrate import Range
from lowtide.compiler.result import CompileResult
from lowtide.encodings import EncodingRequest, Encodings, EncodingSource, check_encodings, merge
from lowtide.errors import DataError, PluginError, QuantizationError
from lowtide.ir import Graph, QuantParams, parse_graph
from lowtide.plugin import EncodingsSpec, Provider, Registry, discover, hookimpl

NET = """graph "n" {
input %x: float32[1, 2, 2, 2]
const %w: float32[2, 2, 1, 1] = [0.5, -1, 0.25, 0.75]
const %b: float32[2] = [1, -1]
%a: float32[1, 2, 2, 2] = Conv(%x, %w, %b)
%y: float32[1, 2, 2, 2] = Sigmoid(%a)
return %y
}"""

RANGES = {"x": Range(-1, 1), "a": Range(-4, 4), "y": Range(0, 1)}
ALL: Any = {"ranges": RANGES}


def source(said: object, called: str) -> type[EncodingSource]:
    """A source that always says the same."""

    @attrs.frozen(kw_only=True)
    class Fixed(EncodingSource):
        name: ClassVar[str] = called

        def read(self, request: EncodingRequest) -> Encodings | None:
            assert request.graph.values["a"].type.quant is None
            return cast("Encodings | None", said)

    return Fixed


@pytest.fixture
def with_source(monkeypatch: pytest.MonkeyPatch) -> Any:
    def register(*said: object) -> Registry:
        registry = discover()
        for number, entry in enumerate(said):
            module = f"acme_encodings_{number}"
            made = SimpleNamespace(Source=source(entry, f"fixed-{number}"))
            monkeypatch.setitem(sys.modules, module, cast(Any, made))
            spec = EncodingsSpec(name=f"fixed-{number}", summary="s", implementation=f"{module}:Source")
            registry.add_plugin(_plugin(spec), Provider("acme", "1", f"acme{number}"))
        return registry

    return register


def _plugin(spec: EncodingsSpec) -> object:
    class Plugin:
        @hookimpl
        def lowtide_register_encodings(self) -> Iterable[EncodingsSpec]:
            return [spec]

    return Plugin()


def compiled(registry: Registry, graph: Graph | None = None, **more: Any) -> CompileResult:
    target = more.pop("target", "am68a")
    return lowtide.compile(graph or parse_graph(NET), target=target, registry=registry, **more)


def quants(result: CompileResult) -> Mapping[str, QuantParams | None]:
    return {name: result.graph.values[name].type.quant for name in ("x", "a", "y")}


# --- merging ---


def test_what_sources_say_about_different_things_is_put_together() -> None:
    both = merge(
        [
            Encodings(origin="one", ranges={"x": Range(0, 1)}),
            Encodings(origin="two", ranges={"y": Range(0, 2)}, weight_bits={"a": 16}),
        ]
    )
    assert both.ranges == {"x": Range(0, 1), "y": Range(0, 2)}
    assert both.weight_bits == {"a": 16}
    assert both.origin == "one and two"
    assert not both.explicit


@pytest.mark.parametrize("order", [1, -1])
def test_what_the_user_named_wins_over_what_a_network_implies(order: int) -> None:
    said = [
        Encodings(origin="clips", ranges={"x": Range(0, 1), "y": Range(0, 1)}),
        Encodings(origin="file", explicit=True, ranges={"x": Range(0, 2)}),
    ]
    both = merge(said[::order])
    assert both.ranges == {"x": Range(0, 2), "y": Range(0, 1)}
    assert both.explicit


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize(
    ("field", "one", "other"),
    [
        ("ranges", Range(0, 1), Range(0, 2)),
        ("weight_scales", (0.5,), (0.25,)),
        ("biases", np.array([1.0, 2.0]), np.array([1.0, 3.0])),
        ("activation_bits", 8, 16),
        ("weight_bits", 8, 16),
    ],
)
def test_sources_of_equal_standing_that_contradict_each_other_are_an_error(
    field: str, one: Any, other: Any, explicit: bool
) -> None:
    def said(origin: str, value: Any) -> Encodings:
        given: dict[str, Any] = {field: {"a": value}}
        return Encodings(origin=origin, explicit=explicit, **given)

    with pytest.raises(QuantizationError, match=rf"a: f1 and f2 say different things about its {field}"):
        merge([said("f1", one), said("f2", other)])
    same = merge([said("f1", one), said("f2", one)])
    assert list(getattr(same, field)) == ["a"]


def test_nothing_said_is_nothing_known() -> None:
    assert merge([]) == Encodings(origin="")


# --- what fits ---


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"ranges": {"q": Range(0, 1)}}, "q: f: the network has no such tensor"),
        ({"activation_bits": {"q": 8}}, "no such tensor"),
        ({"weight_bits": {"x": 8}}, "x: f: the network has no such layer"),
        ({"weight_scales": {"x": (0.5,)}}, "no such layer"),
        ({"ranges": {"x": Range(0, np.inf)}}, "x: f: expected finite numbers"),
        ({"ranges": {"x": Range(np.nan, 1)}}, "finite"),
        ({"ranges": {"x": Range(1, 0)}}, "in order"),
        ({"weight_scales": {"a": (0.5, 0.0)}}, "a: f: a weight scale must be positive and finite, found 0.0"),
        ({"weight_scales": {"a": (0.5, 0.5, 0.5)}}, "expected 1 or 2 weight scales, found 3"),
        ({"weight_scales": {"y": (0.5,)}}, "Sigmoid has no weights"),
        ({"biases": {"a": np.zeros(3)}}, "expected 2 biases, found 3"),
        ({"biases": {"a": np.array([0, np.nan])}}, "NaN"),
    ],
)
def test_what_does_not_fit_the_network_is_an_error_that_names_source_and_place(said: Any, words: str) -> None:
    with pytest.raises(QuantizationError, match=words):
        check_encodings(Encodings(origin="f", **said), parse_graph(NET))


def test_an_unknown_tensor_suggests_near_names(with_source: Any) -> None:
    registry = with_source(Encodings(origin="a.txt", ranges={"X": Range(0, 1)}))
    with pytest.raises(QuantizationError, match=r"a.txt: the network has no such tensor.*did you mean x"):
        compiled(registry)


def test_a_source_that_returns_something_else_is_named_with_its_provider(with_source: Any) -> None:
    with pytest.raises(PluginError, match=r"fixed-0 of .*acme.*Encodings or None, found 7"):
        compiled(with_source(7))


# --- use ---


def test_a_network_whose_ranges_are_all_known_needs_no_data(with_source: Any) -> None:
    result = compiled(with_source(Encodings(origin="acme", **ALL)))
    assert result.ranges == RANGES
    assert quants(result) == {
        "x": QuantParams("int8", 1 / 127),
        "a": QuantParams("int8", 4 / 127),
        "y": QuantParams("uint8", 1 / 255),
    }
    assert result.report.calibration is None


def test_one_range_that_nobody_knows_needs_data_and_is_named(with_source: Any) -> None:
    known = {name: RANGES[name] for name in ("x", "y")}
    with pytest.raises(DataError, match=r"no known range for 1 tensor: a"):
        compiled(with_source(Encodings(origin="acme", ranges=known)))


def test_sources_are_put_together_in_a_compile(with_source: Any) -> None:
    first = Encodings(origin="one", ranges={"x": RANGES["x"], "a": RANGES["a"]})
    second = Encodings(origin="two", ranges={"y": RANGES["y"]})
    assert compiled(with_source(first, None, second)).ranges == RANGES
    other = Encodings(origin="three", ranges={"x": Range(-9, 9)})
    with pytest.raises(QuantizationError, match="one and three"):
        compiled(with_source(first, second, other))


def test_widths_are_those_that_are_said(with_source: Any) -> None:
    said = Encodings(origin="acme", **ALL, activation_bits={"a": 16, "y": 16}, weight_bits={"a": 16})
    result = compiled(with_source(said))
    assert {name: quant.bits for name, quant in quants(result).items() if quant} == {"x": 8, "a": 16, "y": 16}
    assert result.graph.values["w"].type.quant == QuantParams("int16", (1 / 32767, 0.75 / 32767), 0, 0)


def test_widths_that_the_device_cannot_have_are_an_error_that_names_the_source(with_source: Any) -> None:
    with pytest.raises(QuantizationError, match=r"acme.*widths"):
        compiled(with_source(Encodings(origin="acme", **ALL, activation_bits={"a": 16})))
    with pytest.raises(QuantizationError, match=r"acme.* 12"):
        compiled(with_source(Encodings(origin="acme", **ALL, activation_bits={"x": 12})))


@pytest.mark.parametrize("scales", [(0.02,), (0.02, 0.01)])
def test_weight_scales_and_biases_are_used_as_they_are(with_source: Any, scales: tuple[float, ...]) -> None:
    bias = np.array([0.3, -0.4])
    said = Encodings(origin="acme", explicit=True, **ALL, weight_scales={"a": scales}, biases={"a": bias})
    result = compiled(with_source(said))
    weights, stored = result.graph.values["w"], result.graph.values["b"]
    assert weights.type.quant == QuantParams("int8", scales, 0, 0 if len(scales) > 1 else None)
    assert weights.constant is not None
    expected = np.clip(np.array([[0.5, -1], [0.25, 0.75]]) / np.reshape(scales, (-1, 1)), -128, 127)
    assert np.abs(weights.constant.array().reshape(2, 2) - expected).max() <= 0.5 + 1e-6
    assert stored.constant is not None
    assert stored.type.quant is not None
    real = stored.constant.array() * np.array(stored.type.quant.scale)
    assert np.abs(real - bias).max() <= max(stored.type.quant.scale)


@pytest.mark.parametrize(
    ("number", "scales", "words"),
    [
        (1, (0.02,), "no power of two"),
        (1, (0.03125, 0.015625), "the device wants one scale"),
        (0, (0.02, 0.01), "the device wants one scale"),
    ],
)
def test_weight_scales_that_the_device_cannot_have_are_an_error_that_names_their_source(
    with_source: Any, number: int, scales: tuple[float, ...], words: str
) -> None:
    registry = with_source(Encodings(origin="acme", explicit=True, **ALL, weight_scales={"a": scales}))
    with pytest.raises(QuantizationError, match=rf"a, w: acme: .*{words}"):
        compiled(registry, target="tda4vm", options={"quantization_scale_type": number})


def test_weight_scales_that_shifts_can_reach_are_taken(with_source: Any) -> None:
    said = Encodings(origin="acme", explicit=True, **ALL, weight_scales={"a": (0.015625,)})
    result = compiled(with_source(said), target="tda4vm", options={"quantization_scale_type": 1})
    assert result.graph.values["w"].type.quant == QuantParams("int8", 0.015625)


def test_scales_that_a_quantized_network_leaves_out_may_be_known_otherwise(with_source: Any) -> None:
    text = NET.replace("%x: float32[1, 2, 2, 2]", "%x: float32[1, 2, 2, 2] ~ int8(scale=0.5)")
    with pytest.raises(DataError, match="a"):
        compiled(discover(), parse_graph(text))
    result = compiled(with_source(Encodings(origin="acme", **ALL)), parse_graph(text))
    assert quants(result)["x"] == QuantParams("int8", 0.5)  # the codes of the network
    assert quants(result)["a"] == QuantParams("int8", 4 / 127)
    told = {found.place: found.message for found in result.report.diagnostics if found.code == "LT862"}
    assert told["a"].endswith("its range comes from acme")
    assert told["y"].endswith("the operator that makes it")
