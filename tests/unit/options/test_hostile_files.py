"""Whatever stands in a file, the answer is options or a deliberate error that names the file."""

from __future__ import annotations

import copy
import os
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lowtide.data import Preprocess
from lowtide.errors import OptionError
from lowtide.options import load_options_file, resolve_options

CONFIGURATION: dict[str, Any] = {
    "task_type": "classification",
    "preprocess": {
        "resize": 256,
        "crop": [224, 224],
        "data_layout": "NCHW",
        "reverse_channels": False,
        "backend": "cv2",
        "interpolation": None,
        "resize_with_pad": [True, "corner"],
        "pad_color": [114, 114, 114],
    },
    "session": {
        "target_device": None,
        "input_optimization": False,
        "input_data_layout": "NCHW",
        "input_mean": [123.675, 116.28, 103.53],
        "input_scale": [0.017125, 0.017507, 0.017429],
        "runtime_options": {
            "tensor_bits": 8,
            "accuracy_level": 1,
            "advanced_options:calibration_frames": 1,
            "advanced_options:quantization_scale_type": 4,
            "advanced_options:output_feature_16bit_names_list": "1033, 711, 728,\n 728",
            "object_detection:meta_layers_names_list": "net.prototxt",
            "info": {"prequantized_model_type": 0},
        },
        "model_path": "net.onnx",
    },
}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
QUICK = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


def use(path: Path) -> None:
    """Everything that a command does with an options file before it reads a model."""
    loaded = load_options_file(path)
    resolve_options([loaded.layer])
    if loaded.preprocess:
        Preprocess.from_mapping(loaded.preprocess, place=str(path))
    loaded.find_model()


def survive(path: Path) -> None:
    try:
        use(path)
    except OptionError as error:
        message = str(error)
        assert path.name in message
        assert len(message) < 700 + len(str(path))


def mutate(content: dict[str, Any], choose: random.Random, junk: Any) -> dict[str, Any]:
    """Replace one entry, at any depth, or add one."""
    made = copy.deepcopy(content)
    place: Any = made
    while True:
        entries = list(place) if isinstance(place, dict) else range(len(place))
        if not entries:
            return made
        key = choose.choice(list(entries))
        if isinstance(place[key], dict | list) and choose.random() < 0.8:
            place = place[key]
        elif isinstance(place, dict) and choose.random() < 0.2:
            place[f"{key}x"] = junk
            return made
        else:
            place[key] = junk
            return made


def scramble(text: bytes, choose: random.Random) -> bytes:
    """Change, drop or double some bytes."""
    content = bytearray(text)
    for _ in range(choose.randint(1, 6)):
        at = choose.randrange(len(content))
        content[at : at + choose.randint(0, 3)] = choose.choice(
            [b"", b"*a", b"&a ", b"- ", b": ", b"\xff", b"{", b"]", b"!!set ", b"<<", b"\t", b"|", b"\n"]
        )
    return bytes(content)


@QUICK
@given(choose=st.randoms(use_true_random=False), junk=JUNK)
def test_a_made_configuration_with_wrong_values_is_read_or_refused(
    tmp_path: Path, choose: random.Random, junk: object
) -> None:
    file = tmp_path / "net_config.yaml"
    file.write_text(yaml.safe_dump(mutate(CONFIGURATION, choose, junk), allow_unicode=True), "utf-8")
    survive(file)


@QUICK
@given(choose=st.randoms(use_true_random=False))
def test_a_scrambled_configuration_is_read_or_refused(tmp_path: Path, choose: random.Random) -> None:
    file = tmp_path / "net_config.yaml"
    file.write_bytes(scramble(yaml.safe_dump(CONFIGURATION).encode(), choose))
    survive(file)


@pytest.mark.real
@pytest.mark.skipif("LOWTIDE_REAL_DATA" not in os.environ, reason="LOWTIDE_REAL_DATA names no folder")
@QUICK
@given(choose=st.randoms(use_true_random=False), junk=JUNK)
def test_a_published_configuration_with_wrong_values_is_read_or_refused(
    tmp_path: Path, choose: random.Random, junk: object
) -> None:
    files = sorted((Path(os.environ["LOWTIDE_REAL_DATA"]) / "vendor-configs").glob("*.yaml"))
    content = choose.choice(files).read_bytes()
    file = tmp_path / "net_config.yaml"
    file.write_bytes(scramble(content, choose))
    survive(file)
    changed = mutate(yaml.safe_load(content), choose, junk)
    file.write_text(yaml.safe_dump(changed, allow_unicode=True), "utf-8")
    survive(file)


def test_the_made_configuration_is_itself_understood_but_for_its_model(tmp_path: Path) -> None:
    file = tmp_path / "net_config.yaml"
    file.write_text(yaml.safe_dump(CONFIGURATION), "utf-8")
    with pytest.raises(OptionError, match=r"session\.model_path"):
        use(file)


def aliases(levels: int, form: str) -> str:
    """Every line doubles what the last one stands for."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {form.format(last=f'*a{n - 1}')}" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        aliases(40, "[{last}, {last}]"),
        aliases(40, "{{<<: [{last}, {last}]}}"),
        aliases(40, "{{x: {last}, y: {last}}}"),
        "seed: &a [*a]",
        "a: &a {<<: *a}",
    ],
)
def test_aliases_that_grow_by_powers_or_hold_themselves_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bomb.yaml").write_text(text, "utf-8")
    with pytest.raises(OptionError, match=r"bomb\.yaml.*too many values"):
        use(tmp_path / "bomb.yaml")


def test_a_few_aliases_are_fine(tmp_path: Path) -> None:
    (tmp_path / "o.yaml").write_text("preprocess: {mean: &m [1, 2, 3], scale: *m}\n", "utf-8")
    assert load_options_file(tmp_path / "o.yaml").preprocess == {"mean": [1, 2, 3], "scale": [1, 2, 3]}


def test_a_file_of_50_megabytes_is_refused_by_its_size(tmp_path: Path) -> None:
    with (tmp_path / "big.yaml").open("wb") as file:
        file.truncate(50_000_000)
    with pytest.raises(OptionError, match=r"big\.yaml: is larger than 1000 kB"):
        use(tmp_path / "big.yaml")


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_text_in_another_encoding_is_refused_with_the_place(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "o.yaml").write_text("network_name: Größe\n", encoding)
    with pytest.raises(OptionError, match=r"o\.yaml: is no UTF-8 text: byte \d+ is 0x"):
        use(tmp_path / "o.yaml")


@pytest.mark.parametrize(("name", "text"), [("o.yaml", "seed: 3\n"), ("o.json", '{"seed": 3}')])
def test_a_mark_of_the_byte_order_is_no_part_of_the_text(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, "utf-8-sig")
    assert load_options_file(tmp_path / name).layer.values == {"seed": 3}


@pytest.mark.parametrize(
    ("key", "junk"),
    [
        ("tensor_bits", [8]),
        ("accuracy_level", {"a": 1}),
        ("advanced_options:calibration_frames", "many"),
        ("advanced_options:quantization_scale_type", 2),
        ("advanced_options:output_feature_16bit_names_list", {"a": 1}),
        ("advanced_options:output_feature_16bit_names_list", [["a"]]),
        ("advanced_options:mixed_precision_factor", "fast"),
        ("deny_list:layer_name", 1.5),
        ("debug_level", [[]]),
        ("artifacts_folder", {"path": "x"}),
    ],
)
def test_a_wrong_type_names_file_and_key(tmp_path: Path, key: str, junk: object) -> None:
    made = copy.deepcopy(CONFIGURATION)
    made["session"]["runtime_options"][key] = junk
    (tmp_path / "net_config.yaml").write_text(yaml.safe_dump(made), "utf-8")
    with pytest.raises(OptionError) as caught:
        use(tmp_path / "net_config.yaml")
    assert key in caught.value.place
    assert "net_config.yaml" in caught.value.place
