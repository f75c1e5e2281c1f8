from __future__ import annotations

import re
from importlib import resources

import attrs
import pytest

import lowtide_plugins.latency
import lowtide_targets
from lowtide.errors import TargetError, UnsupportedByTargetError
from lowtide.ir import DType
from lowtide.ir.schema import known_ops
from lowtide.latency import latency_model
from lowtide.plugin import Provider, Registry, TargetSpec
from lowtide.target import Target, list_targets, load_target, scale_rule

ABSTRACT = {"tidl", "tidl-asymmetric", "tidl-256"}
SYMMETRIC_ONLY = {"tda4vm"}
ASYMMETRIC = {"am62a", "am67a", "am68a", "am69a"}
VENDOR = SYMMETRIC_ONLY | ASYMMETRIC


def registry() -> Registry:
    made = Registry()
    made.add_plugin(lowtide_targets, Provider("lowtide", "0", "targets"))
    return made


@pytest.fixture(scope="module")
def targets() -> dict[str, Target]:
    installed = registry()
    return {name: load_target(name, installed) for name in sorted(VENDOR | {"generic"})}


def test_every_built_in_target_is_usable_or_a_base() -> None:
    lines = list_targets(registry())
    assert {line.name for line in lines} == VENDOR | ABSTRACT | {"generic"}
    assert {line.name for line in lines if line.abstract} == ABSTRACT
    assert not [line.problem for line in lines if line.problem]


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("am68pa", "tda4vm"),
        ("j721e", "tda4vm"),
        ("j722s", "am67a"),
        ("j721s2", "am68a"),
        ("j784s4", "am69a"),
    ],
)
def test_devices_have_the_names_of_their_chips(alias: str, name: str) -> None:
    assert load_target(alias, registry()).name == name


def test_the_common_base_cannot_be_selected_and_names_its_devices() -> None:
    with pytest.raises(TargetError) as caught:
        load_target("tidl", registry())
    assert all(name in caught.value.hint for name in VENDOR)
    assert not any(name in caught.value.hint for name in ("generic", "tidl-256"))


@pytest.mark.parametrize(
    ("number", "words"), [(3, "TFLite"), (4, "scale type 0 or 1"), (2, "no scale type 2")]
)
def test_the_first_generation_refuses_zero_points(
    targets: dict[str, Target], number: int, words: str
) -> None:
    with pytest.raises(UnsupportedByTargetError, match=words) as caught:
        scale_rule(targets["tda4vm"], number)
    assert "0 (non-power-of-two), 1 (power-of-two)" in caught.value.hint


def test_default_scale_types_are_those_of_the_vendors_presets(targets: dict[str, Target]) -> None:
    assert {name: target.default_scale_type for name, target in targets.items()} == {
        "tda4vm": 1,
        "am62a": 4,
        "am67a": 4,
        "am68a": 4,
        "am69a": 4,
        "generic": 4,
    }


def test_symmetric_scale_types_are_the_same_everywhere(targets: dict[str, Target]) -> None:
    for number in (0, 1):
        rules = {target.scale_rules[number] for target in targets.values()}
        assert len(rules) == 1
        assert {(rule.activation, rule.requantize) for rule in rules} == {("symmetric", "shift")}


def test_scale_types_follow_the_vendors_numbering(targets: dict[str, Target]) -> None:
    am68a = targets["am68a"]
    assert sorted(am68a.scale_rules) == [0, 1, 3, 4]
    assert am68a.scale_rules[0].activation_scale == "accumulator"
    assert {am68a.scale_rules[1].activation_scale, am68a.scale_rules[1].weight_scale} == {"power-of-two"}
    assert (am68a.scale_rules[3].activation_dtype, am68a.scale_rules[4].activation_dtype) == (
        DType.INT8,
        DType.UINT8,
    )
    assert {am68a.scale_rules[number].weight_granularity for number in (3, 4)} == {"per-channel"}
    generic = targets["generic"].scale_rules[4]
    assert generic == attrs.evolve(am68a.scale_rules[4], requantize="float32", arithmetic="float32")


def test_biases_are_split_on_the_first_generation_only(targets: dict[str, Target]) -> None:
    assert {name for name, target in targets.items() if target.bias.split} == SYMMETRIC_ONLY
    assert {target.bias.bits for name, target in targets.items() if name != "tda4vm"} == {32}
    assert targets["tda4vm"].bias.bits == 16


def test_zero_points_are_allowed_where_the_vendor_allows_them(targets: dict[str, Target]) -> None:
    allowed = {"Conv", "Gemm", "MatMul", "Softmax", "Concat", "LayerNormalization"}
    allowed |= {"Flatten", "Reshape", "Transpose", "Add"}
    for name in VENDOR:
        operators = targets[name].operators
        assert {op for op, rule in operators.items() if rule.asymmetric} == allowed
        assert {op for op, rule in operators.items() if rule.asymmetric_needs_constant} == {"Gemm", "MatMul"}
        assert {op for op, rule in operators.items() if rule.per_channel} == {"Conv", "Gemm", "MatMul"}
        assert not targets[name].input_asymmetric
    assert all(rule.asymmetric for rule in targets["generic"].operators.values())


def test_widths_change_where_the_vendor_changes_them(targets: dict[str, Target]) -> None:
    changing = {"Conv", "BatchNormalization", "AveragePool", "GlobalAveragePool"}
    changing |= {"Add", "Sub", "Mul", "Div", "Sum", "Max", "Min"}
    for name in VENDOR:
        found = {op for op, rule in targets[name].operators.items() if rule.changes_bits}
        assert found == changing
    assert all(rule.changes_bits for rule in targets["generic"].operators.values())


def test_vendor_layers_have_type_names_and_others_have_none(targets: dict[str, Target]) -> None:
    for name in VENDOR:
        assert targets[name].vendor_layers
        types = [rule.layer_type for rule in targets[name].operators.values()]
        assert all(re.fullmatch(r"TIDL_\w+Layer", found) for found in types)
    assert not targets["generic"].vendor_layers
    assert {rule.layer_type for rule in targets["generic"].operators.values()} == {""}


def test_operators_that_give_indices_write_no_codes(targets: dict[str, Target]) -> None:
    for target in targets.values():
        for op in {"ArgMax", "ArgMin", "TopK"} & target.operators.keys():
            assert target.operators[op].kind == "float"


def test_every_reason_is_given_and_every_operator_is_one_of_onnx(targets: dict[str, Target]) -> None:
    for target in targets.values():
        assert target.operators.keys() <= known_ops()
        assert all(c.reason for rule in target.operators.values() for c in rule.constraints)


# --- mutations of the files ---


@attrs.frozen(kw_only=True)
class Mutated(TargetSpec):
    """A built-in description with other text."""

    text: str

    def load(self) -> str:
        return self.text


FILES = sorted(
    entry.name for entry in resources.files(lowtide_targets).iterdir() if entry.name.endswith(".toml")
)
SELECTED = {"tidl": "tda4vm", "tidl-asymmetric": "am68a", "tidl-256": "am67a"}


def mutations() -> list[tuple[str, str, str]]:
    """For every file: the same text with one key renamed, once for each key in each kind of table."""
    found: list[tuple[str, str, str]] = []
    for file in FILES:
        text = resources.files(lowtide_targets).joinpath(file).read_text("utf-8")
        seen: set[tuple[str, str]] = set()
        table = ""
        offset = 0
        for line in text.splitlines(keepends=True):
            header = re.match(r"\[(\w+)", line)
            table = header.group(1) if header else table
            outside = re.sub(r'"[^"]*"', lambda quoted: "_" * len(quoted.group()), line)
            for key in re.finditer(r"(\w+) = ", "" if line.startswith("#") else outside):
                kind = (table, key.group(1))
                # Recipes may have any name; a ladder's options are checked when it is climbed.
                if table not in {"recipes", "tune"} and kind not in seen:
                    seen.add(kind)
                    at = offset + key.end(1)
                    found.append((file.removesuffix(".toml"), ".".join(kind), text[:at] + "x" + text[at:]))
            offset += len(line)
    return found


MUTATIONS = mutations()


def test_the_mutations_reach_every_kind_of_table() -> None:
    reached = {key for _, key, _ in MUTATIONS}
    wanted = {
        ".schema",
        ".title",
        "bias.split",
        "bias.8",
        "scale_rules.activation",
        "operators.kind",
    }
    wanted |= {
        "operators.require",
        "operators.reason",
        "operators.hint",
        "operators.bits",
        "refused_scale_types.4",
    }
    assert wanted <= reached


@pytest.mark.parametrize(
    ("name", "key", "text"), MUTATIONS, ids=[f"{name}:{key}" for name, key, _ in MUTATIONS]
)
def test_a_misspelt_key_in_a_built_in_file_is_an_error(name: str, key: str, text: str) -> None:
    mutated = Registry()
    provider = Provider("lowtide", "0", "targets")
    for spec in registry().all(TargetSpec):
        if spec.name == name:
            changed = Mutated(name=name, summary="", implementation=spec.implementation, text=text)
            mutated.add(changed, provider)
        else:
            mutated.add(spec, provider)
    mutated.add_plugin(lowtide_plugins.latency, Provider("lowtide", "0", "latency"))
    with pytest.raises(TargetError) as caught:
        latency_model(load_target(SELECTED.get(name, name), mutated), mutated)
    if not caught.value.place.startswith(f"target {SELECTED.get(name, name)}: latency.options."):
        assert f"target {name} (lowtide_targets:{name}.toml): " in caught.value.place
    assert key.rpartition(".")[2] in caught.value.place
