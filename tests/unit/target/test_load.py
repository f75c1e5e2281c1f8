from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lowtide.errors import PluginError, TargetError, UnknownNameError, UnsupportedByTargetError
from lowtide.ir import DType
from lowtide.plugin import Provider, Registry, TargetSpec
from lowtide.target import Target, list_targets, load_target, scale_rule

RegistryOf = Callable[..., Registry]

CHILD = 'schema = 1\nextends = "base"\n'


def refusal(registry: Registry, name: str = "child") -> TargetError:
    with pytest.raises(TargetError) as caught:
        load_target(name, registry)
    return caught.value


def test_a_description_becomes_a_target(registry_of: RegistryOf) -> None:
    target = load_target("base", registry_of())
    assert isinstance(target, Target)
    assert (target.name, target.title, target.summary) == ("base", "base", "base.")
    assert target.scale_rules[1].name == "power-of-two"
    assert target.operators["Conv"].constraints[0].reason == "unequal strides"
    assert target.bias.accumulator_bits == {"8": 32, "16": 64}


def test_a_target_is_found_by_its_alias_and_keeps_its_name(registry_of: RegistryOf) -> None:
    assert load_target("other", registry_of(child=CHILD, aliases=("other",))).name == "child"


def test_an_unknown_target_is_no_broken_one(registry_of: RegistryOf) -> None:
    with pytest.raises(UnknownNameError, match="did you mean base"):
        load_target("bas", registry_of())


def test_a_child_overrides_single_keys_of_nested_tables(registry_of: RegistryOf) -> None:
    text = (
        CHILD
        + 'max_subgraphs = 2\n[operators.Add]\nkind = "table"\n[scale_rules.1]\nactivation_dtype = "int8"\n'
    )
    target = load_target("child", registry_of(child=text))
    assert target.max_subgraphs == 2
    assert (target.operators["Add"].kind, target.operators["Add"].layer_type) == ("table", "MAKER_Sum")
    assert (target.scale_rules[1].activation_dtype, target.scale_rules[1].name) == (
        DType.INT8,
        "power-of-two",
    )
    assert "Relu" in target.operators


ONE_MORE = '[operators.Conv]\nconstraints = [{ require = "group == 1", reason = "groups" }]\n'


def test_constraints_of_a_child_are_added(registry_of: RegistryOf) -> None:
    target = load_target("child", registry_of(child=CHILD + ONE_MORE))
    assert [c.reason for c in target.operators["Conv"].constraints] == ["unequal strides", "groups"]


def test_constraints_of_a_child_replace_when_it_says_so(registry_of: RegistryOf) -> None:
    target = load_target("child", registry_of(child=CHILD + ONE_MORE + "replace_constraints = true\n"))
    assert [c.reason for c in target.operators["Conv"].constraints] == ["groups"]


def test_inheriting_does_not_change_the_parent(registry_of: RegistryOf) -> None:
    registry = registry_of(child=CHILD + ONE_MORE)
    before = load_target("base", registry)
    load_target("child", registry)
    assert load_target("base", registry) == before


def test_operators_can_be_removed_and_given_anew(registry_of: RegistryOf) -> None:
    text = CHILD + 'remove_operators = ["Relu", "Conv"]\n[operators.Conv]\nkind = "float"\n'
    target = load_target("child", registry_of(child=text))
    assert "Relu" not in target.operators
    assert (target.operators["Conv"].kind, target.operators["Conv"].constraints) == ("float", ())


def test_removing_what_is_not_there_is_an_error(registry_of: RegistryOf) -> None:
    error = refusal(registry_of(child=CHILD + 'remove_operators = ["Rel"]\n'))
    assert "did you mean Relu" in error.hint
    assert "remove_operators" in error.place


def test_notes_add_up_and_titles_are_not_inherited(registry_of: RegistryOf) -> None:
    one = CHILD + 'title = "One"\nnotes = ["a"]\n'
    two = 'schema = 1\nextends = "one"\nnotes = ["b"]\n'
    target = load_target("two", registry_of(one=one, two=two))
    assert (target.title, target.notes) == ("two", ("a", "b"))


def test_a_refused_scale_type_takes_the_inherited_rule_away(registry_of: RegistryOf) -> None:
    text = CHILD + (
        'default_scale_type = 4\nrefused_scale_types.1 = "no shifts; use 4"\n'
        '[scale_rules.4]\nname = "x"\nactivation = "asymmetric"\n'
    )
    target = load_target("child", registry_of(child=text))
    assert list(target.scale_rules) == [4]
    with pytest.raises(UnsupportedByTargetError, match="no shifts; use 4") as caught:
        scale_rule(target, 1)
    assert "child has 4 (x)" in caught.value.hint


def test_a_scale_type_that_nobody_mentions_is_refused_with_the_known_ones(registry_of: RegistryOf) -> None:
    target = load_target("base", registry_of())
    assert scale_rule(target, 1) is target.scale_rules[1]
    with pytest.raises(UnsupportedByTargetError, match="base has no scale type 7") as caught:
        scale_rule(target, 7)
    assert "1 (power-of-two)" in caught.value.hint


def test_name_and_summary_may_be_repeated_in_the_file(registry_of: RegistryOf) -> None:
    target = load_target("child", registry_of(child=CHILD + "name = 'child'\nsummary = 'better'\n"))
    assert (target.name, target.summary) == ("child", "better")


def test_a_circle_of_inheritance_is_an_error(registry_of: RegistryOf) -> None:
    one, two = 'schema = 1\nextends = "two"\n', 'schema = 1\nextends = "one"\n'
    assert "one extends two extends one" in refusal(registry_of(one=one, two=two), "one").message
    assert "me extends me" in refusal(registry_of(me='schema = 1\nextends = "me"\n'), "me").message


def test_a_missing_parent_is_an_error(registry_of: RegistryOf) -> None:
    error = refusal(registry_of(child='schema = 1\nextends = "bse"\n'))
    assert "did you mean base" in error.hint
    assert error.place.startswith("target child")


def test_an_abstract_target_cannot_be_selected(registry_of: RegistryOf) -> None:
    registry = registry_of(
        family="abstract = true\n" + CHILD,
        one='schema = 1\nextends = "family"\n',
        broken="schema = 1\nextends = 3\n",
    )
    assert refusal(registry, "family").hint == "use one"
    assert load_target("one", registry).operators
    assert "no target extends it" in refusal(registry_of(alone="abstract = true\n" + CHILD), "alone").hint


@pytest.mark.parametrize("schema", ["", "schema = 2\n", "schema = true\n", 'schema = "1"\n'])
def test_another_schema_is_an_error(registry_of: RegistryOf, schema: str) -> None:
    error = refusal(registry_of(child=schema + 'extends = "base"\n'))
    assert "expected schema = 1" in error.message


def test_text_that_is_no_toml_is_an_error(registry_of: RegistryOf) -> None:
    assert "no valid TOML" in refusal(registry_of(child="schema = = 1")).message


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("max_subgraph = 1", "max_subgraph", "did you mean max_subgraphs"),
        ('name = "x"', "name", "registered as 'child'"),
        ("summary = 3", "summary", "expected a text"),
        ('[operators.Conv]\nknd = "mac"', "operators.Conv.knd", "did you mean kind"),
        ('[scale_rules.1]\nactivaton = "x"', "scale_rules.1.activaton", "did you mean activation"),
        ("[bias]\nbit = 3", "bias.bit", "did you mean bits"),
        (
            '[operators.Relu]\nconstraints = [{ require = "True", reason = "r", bit = [8] }]',
            "operators.Relu.constraints.0.bit",
            "did you mean bits",
        ),
        ('[operators.Conv]\nkind = "macc"', "operators.Conv.kind", "expected one of mac"),
        ("[operators.Conv]\nkind = 3", "operators.Conv.kind", "expected one of mac"),
        (
            '[operators.Conv]\nasymmetric = "yes"',
            "operators.Conv.asymmetric",
            "expected true or false, found 'yes'",
        ),
        ("[operators.Conv]\nasymmetric = 1", "operators.Conv.asymmetric", "expected true or false, found 1"),
        ('max_subgraphs = "2"', "max_subgraphs", "expected a whole number, found '2'"),
        ("max_subgraphs = true", "max_subgraphs", "expected a whole number, found True"),
        ("prepare = 3", "prepare", "expected a text, found 3"),
        ("bits = 8", "bits", "expected a list, found 8"),
        ('bits = "8"', "bits", "expected a list, found '8'"),
        ("bits = [8, 12]", "bits", "expected one or both"),
        ("bits = []", "bits", "expected one or both"),
        ('bits = [8, "x"]', "bits.1", "expected a whole number"),
        ("bias = 3", "bias", "expected a table, found 3"),
        ("operators = 3", "operators", "expected a table, found 3"),
        ("operators.Conv = 3", "operators.Conv", "expected a table, found 3"),
        ("operators.Conv.constraints = 3", "operators.Conv.constraints", "expected a list, found 3"),
        (
            "operators.Conv.replace_constraints = 3",
            "operators.Conv.replace_constraints",
            "expected true or false",
        ),
        ("scale_rules = 3", "scale_rules", "expected a table, found 3"),
        ("refused_scale_types.1x = 'no'", "refused_scale_types.1x", "expected a number as key"),
        ("refused_scale_types.3 = 5", "refused_scale_types.3", "expected a text, found 5"),
        (
            'scale_rules.1.activation_dtype = "int7"',
            "scale_rules.1.activation_dtype",
            "expected an element type",
        ),
        ("option_defaults.x = [1]", "option_defaults.x", "expected a number or a text"),
        ("notes = 'x'", "notes", "expected a list"),
        ("[operators.Convolution]\nkind = 'mac'", "operators.Convolution", "ONNX has no such operator"),
        ("[operators.Neg]\nlayer_type = 'N'", "operators.Neg.kind", "the key is missing"),
        ("default_scale_type = 4", "default_scale_type", "expected one of the scale rules 1, found 4"),
        (
            "[bias]\naccumulator_bits = { 4 = 8, 8 = 32, 16 = 64 }",
            "bias.accumulator_bits.4",
            "expected one of",
        ),
        ("[bias]\naccumulator_bits = { 8 = 32 }", "bias.accumulator_bits", "no entry for 16 bits"),
        ("title = 3", "title", "expected a text"),
        ("abstract = 1", "abstract", "expected true or false"),
        ("remove_operators = 'Relu'", "remove_operators", "expected a list of texts"),
        ("remove_operators = [1]", "remove_operators", "expected a list of texts"),
        (
            "[[operators.Relu.constraints]]\nrequire = 'False'\nreason = 'r'\nbits = [4]",
            "operators.Relu.constraints.0.bits",
            "expected some of",
        ),
        (
            "refused_scale_types.4 = 'no'\nscale_rules.4 = { name = 'x', activation = 'symmetric' }",
            "refused_scale_types.4",
            "this scale type has a rule too",
        ),
    ],
)
def test_an_error_names_file_and_key_and_what_was_expected(
    registry_of: RegistryOf, text: str, path: str, words: str
) -> None:
    error = refusal(registry_of(child=CHILD + text))
    assert error.place == f"target child (t:f.toml): {path}"
    assert words in str(error)


def test_an_error_of_an_inherited_key_names_the_file_that_wrote_it(registry_of: RegistryOf) -> None:
    registry = registry_of(middle=CHILD + "max_subgraphs = 'x'\n", child='schema = 1\nextends = "middle"\n')
    assert refusal(registry).place == "target middle (t:f.toml): max_subgraphs"


def test_a_wrong_constraint_is_found_when_the_target_is_loaded(registry_of: RegistryOf) -> None:
    text = CHILD + "[[operators.Conv.constraints]]\nrequire = 'strideh == 1'\nreason = 'r'\n"
    error = refusal(registry_of(child=text))
    assert error.place == "target child: operators.Conv.constraints[1].require"
    assert "stride_h" in error.hint


def test_a_listing_shows_every_target_and_why_one_is_unusable(registry_of: RegistryOf) -> None:
    registry = registry_of(
        family='abstract = true\ntitle = "F"\n' + CHILD,
        child="schema = 1\nextends = 'family'\n",
        wrong="schema = 9\n",
    )
    lines = {line.name: line for line in list_targets(registry)}
    assert list(lines) == ["base", "child", "family", "wrong"]
    assert (lines["family"].abstract, lines["family"].title, lines["child"].extends) == (True, "F", "family")
    assert "expected schema = 1" in lines["wrong"].problem
    assert not lines["child"].problem


MINE = """
schema = 1
extends = "base"
title = "My board"
bits = [8]
remove_operators = ["Mul"]

[operators.Conv]
constraints = [{ require = "kernel_h <= 5", reason = "my firmware has small kernels", hint = "split it" }]
"""


def test_a_third_party_extends_a_target_with_a_file_of_its_own(
    registry_of: RegistryOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "my_board_target"
    package.mkdir()
    (package / "__init__.py").write_text("", "utf-8")
    (package / "board.toml").write_text(MINE, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = registry_of()
    spec = TargetSpec(name="my-board", summary="mine", implementation="my_board_target:board.toml")
    registry.add(spec, Provider("my-board", "1", "mine"))
    target = load_target("my-board", registry)
    assert (target.title, target.bits, len(target.operators["Conv"].constraints)) == ("My board", (8,), 2)


def test_a_missing_file_is_an_error_of_the_plugin(registry_of: RegistryOf) -> None:
    registry = registry_of()
    spec = TargetSpec(name="gone", summary="s", implementation="lowtide:gone.toml")
    registry.add(spec, Provider("gone", "1", "gone"))
    with pytest.raises(PluginError, match=r"gone\.toml cannot be read"):
        load_target("gone", registry)


MODEL = "[latency]\nmodel = 'one'\nstated_error = 0.1\n[latency.options]\na = 1.0\nb = 2.0\n"


@pytest.mark.parametrize(
    ("text", "options", "stated"),
    [
        ("[latency]\nmodel = 'two'\n[latency.options]\nc = 3.0\n", {"c": 3.0}, None),
        ("[latency]\nmodel = 'two'\n", {}, None),
        ("[latency.options]\na = 3.0\n", {"a": 3.0, "b": 2.0}, None),
        ("[latency]\nstated_error = 0.2\n[latency.options]\na = 3.0\n", {"a": 3.0, "b": 2.0}, 0.2),
        ("", {"a": 1.0, "b": 2.0}, 0.1),
    ],
)
def test_another_latency_model_starts_without_options_and_other_options_without_a_stated_error(
    registry_of: RegistryOf, text: str, options: dict[str, float], stated: float | None
) -> None:
    known = registry_of(middle=CHILD + MODEL, child="schema = 1\nextends = 'middle'\n" + text)
    found = load_target("child", known).latency
    assert found is not None
    assert dict(found.options) == options
    assert found.stated_error == stated
