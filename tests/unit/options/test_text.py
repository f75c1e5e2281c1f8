from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lowtide.errors import OptionError
from lowtide.options import CompileOptions, OptionLayer, load_options_file, parse_assignment, resolve_options

NAMES_THAT_YAML_READS_AS_SOMETHING_ELSE = [
    "0711",
    "11_01_00_00",
    "2020-01-01",
    "2020-13-45",
    "12:30",
    "1:30.5",
]


def from_flag(text: str) -> CompileOptions:
    key, value = parse_assignment(text)
    return resolve_options([OptionLayer("--set", {key: value})]).options


def from_file(folder: Path, text: str, name: str = "o.yaml") -> CompileOptions:
    (folder / name).write_text(text, "utf-8")
    return resolve_options([load_options_file(folder / name).layer]).options


@pytest.mark.parametrize("name", [*NAMES_THAT_YAML_READS_AS_SOMETHING_ELSE, "1.10", "on", "null", "1e5"])
def test_a_name_on_the_command_line_keeps_its_spelling(name: str) -> None:
    assert from_flag(f"network_name={name}").network_name == name
    assert from_flag(f"deny_list:layer_name=[{name}, b]").deny_list_layer_name == (name, "b")


@pytest.mark.parametrize("name", NAMES_THAT_YAML_READS_AS_SOMETHING_ELSE)
def test_a_name_in_a_file_keeps_its_spelling(tmp_path: Path, name: str) -> None:
    assert yaml.safe_load("0711") == 457  # what the usual reader makes of such names
    assert from_file(tmp_path, f"c7x_firmware_version: {name}\n").c7x_firmware_version == name
    assert from_file(tmp_path, f"deny_list: [{name}]\n").deny_list_layer_type == (name,)


@pytest.mark.parametrize("name", ["1.10", "yes"])
def test_a_name_that_lost_its_spelling_in_a_file_is_refused_with_the_remedy(
    tmp_path: Path, name: str
) -> None:
    for text in (f"network_name: {name}\n", f"deny_list:layer_name: [a, {name}]\n"):
        with pytest.raises(OptionError, match="quotes"):
            from_file(tmp_path, text)
    assert from_file(tmp_path, f"network_name: '{name}'\n").network_name == name


@given(st.integers(min_value=0, max_value=10**12), st.floats(min_value=0, max_value=1))
def test_numbers_on_the_command_line_are_numbers(integer: int, number: float) -> None:
    assert from_flag(f"seed={integer}").seed == integer
    assert from_flag(f"input_scale={number!r}").input_scale == (number,)


@given(
    st.recursive(st.text() | st.integers() | st.floats() | st.booleans() | st.none(), st.lists, max_leaves=5)
)
def test_any_json_value_is_taken_or_refused_as_a_deliberate_error(value: Any) -> None:
    fields = ("seed", "bias_calibration_factor", "channel_wise_quantization", "network_name")
    for key in (*fields, "deny_list", "input_mean", "input_shapes", "input_shapes.x"):
        try:
            resolve_options([OptionLayer("file", {key: json.loads(json.dumps(value))})])
        except OptionError as error:
            assert "file" in error.place  # noqa: PT017 - both ways are right, a traceback is not


@given(st.text())
def test_any_assignment_is_taken_or_refused_as_a_deliberate_error(text: str) -> None:
    try:
        parse_assignment(f"network_name={text}")
    except OptionError as error:
        assert "network_name" in error.place  # noqa: PT017 - see above


def test_quoted_text_lists_and_mappings_of_the_command_line_are_yaml() -> None:
    assert from_flag('network_name="a, b"').network_name == "a, b"
    assert from_flag('deny_list:layer_name=["a b", c;d]').deny_list_layer_name == ("a b", "c;d")
    assert from_flag("input_shapes={x: 1x3, y: [4, 5]}").input_shapes == {"x": (1, 3), "y": (4, 5)}
    with pytest.raises(OptionError, match="close brackets"):
        parse_assignment("deny_list=[a")


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("o.yaml", "seed: 1\ntensor_bits: 8\nseed: 2\n", "o.yaml:3:1"),
        ("o.json", '{"seed": 1, "seed": 2}', "o.json"),
    ],
)
def test_a_key_that_stands_twice_in_a_file_is_refused(
    tmp_path: Path, name: str, text: str, place: str
) -> None:
    with pytest.raises(OptionError, match="'seed' stands twice") as caught:
        from_file(tmp_path, text, name)
    assert caught.value.place.endswith(place)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("o.yaml", "[" * 3000),
        ("o.json", "[" * 100_000),
        ("o.json", f'{{"seed": {"9" * 5000}}}'),
        ("o.yaml", f"seed: {'9' * 5000}"),
        ("o.yaml", "seed: \x00"),
        ("o.yaml", "? {a: 1}\n: 2"),
        ("o.yaml", "seed: !!python/object:os.system {}"),
    ],
)
def test_a_hostile_file_is_refused_in_a_few_words(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(OptionError) as caught:
        from_file(tmp_path, text, name)
    assert len(str(caught.value)) < 500


def test_tuples_and_merged_keys_of_yaml_are_read(tmp_path: Path) -> None:
    text = "defaults: &d {input_mean: !!python/tuple [1, 2.5], seed: 1}\nsession: {}\n"
    (tmp_path / "c.yaml").write_text(text, "utf-8")
    assert load_options_file(tmp_path / "c.yaml").ignored == ("defaults",)
    text = "advanced_options: &a {calibration_frames: 20}\nseed: 3\n"
    assert from_file(tmp_path, text).calibration_frames == 20
    text = "object_detection: {<<: {top_k: 1, keep_top_k: 5}, top_k: 2}\n"
    assert (from_file(tmp_path, text).top_k, from_file(tmp_path, text).keep_top_k) == (2, 5)
    assert from_file(tmp_path, "input_mean: !!python/tuple [1, 2.5]\n").input_mean == (1.0, 2.5)
