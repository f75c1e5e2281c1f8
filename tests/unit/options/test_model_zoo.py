from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from lowtide.data import Preprocess, preprocess_in_words
from lowtide.errors import OptionError
from lowtide.options import (
    Effect,
    EffectiveOption,
    LoadedOptions,
    OptionLayer,
    load_options_file,
    resolve_options,
)

FRAMES = "advanced_options:calibration_frames"
ITERATIONS = "advanced_options:calibration_iterations"


def write(folder: Path, session: object, **blocks: object) -> LoadedOptions:
    text = yaml.safe_dump({"session": session, **blocks})
    (folder / "net_config.yaml").write_text(text, "utf-8")
    return load_options_file(folder / "net_config.yaml")


def effective(*layers: OptionLayer) -> dict[str, EffectiveOption]:
    resolved = resolve_options(layers)
    return {option.key: option for option in resolved.effective}


def test_placeholders_are_noted_and_not_obeyed(tmp_path: Path) -> None:
    layer = write(tmp_path, {"runtime_options": {FRAMES: 1, ITERATIONS: 3}}).layer
    options = resolve_options([layer]).options
    assert (options.calibration_frames, options.calibration_iterations) == (None, 50)
    found = effective(layer)
    assert "all frames are used" in found[FRAMES].note
    assert "1 (options file net_config.yaml)" in found[FRAMES].note
    assert "3 (options file" in found[ITERATIONS].note
    assert found[FRAMES].origin == "default"


@pytest.mark.parametrize("count", [10, 12, 50])
def test_ten_frames_and_more_are_meant(tmp_path: Path, count: int) -> None:
    layer = write(tmp_path, {"runtime_options": {FRAMES: count}}).layer
    assert resolve_options([layer]).options.calibration_frames == count


def test_a_single_frame_is_obeyed_where_the_user_asks_for_it(tmp_path: Path) -> None:
    layer = write(tmp_path, {"runtime_options": {FRAMES: 1}}).layer
    found = effective(layer, OptionLayer("--set", {FRAMES: 2}))[FRAMES]
    assert (found.value, found.origin) == (2, "--set")
    assert found.overridden == (("options file net_config.yaml", 1),)
    assert "placeholder" not in found.note
    (tmp_path / "plain.yaml").write_text(f"{FRAMES}: 1\n", "utf-8")
    plain = load_options_file(tmp_path / "plain.yaml")
    assert resolve_options([plain.layer]).options.calibration_frames == 1


@pytest.mark.parametrize("junk", [0, -1, True, "many", [1]])
def test_what_is_no_number_of_frames_is_no_placeholder_either(tmp_path: Path, junk: object) -> None:
    layer = write(tmp_path, {"runtime_options": {FRAMES: junk}}).layer
    with pytest.raises(OptionError, match=r"calibration_frames \(options file net_config\.yaml\)"):
        resolve_options([layer])


@pytest.mark.parametrize("where", ["net.onnx", "model/net.onnx", "../net.onnx", "../model/net.onnx"])
def test_the_model_is_found_beside_the_file_above_it_and_in_the_model_folder(
    tmp_path: Path, where: str
) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    (folder / where).parent.mkdir(exist_ok=True)
    (folder / where).write_bytes(b"")
    for written in ("net.onnx", "somewhere/else/net.onnx", "/home/builder/net.onnx"):
        found = write(folder, {"model_path": written}).find_model()
        assert found is not None
        assert found.resolve() == (folder / where).resolve()


def test_the_path_as_written_comes_before_its_last_part(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("net.onnx", "deep/net.onnx"):
        (tmp_path / name).write_bytes(b"")
    assert write(tmp_path, {"model_path": "deep/net.onnx"}).find_model() == tmp_path / "deep/net.onnx"
    absolute = str(tmp_path / "deep" / "net.onnx")
    assert write(tmp_path, {"model_path": absolute}).find_model() == Path(absolute)


def test_a_model_that_is_not_there_is_named_with_a_remedy(tmp_path: Path) -> None:
    loaded = write(tmp_path, {"model_path": "net.onnx"})
    with pytest.raises(OptionError, match=r"'net\.onnx' is not there.*put it beside") as caught:
        loaded.find_model()
    assert caught.value.place.endswith("net_config.yaml, session.model_path")
    (tmp_path / "net.onnx.link").write_text("https://example.com/net.onnx", "utf-8")
    with pytest.raises(OptionError, match=r"address in net\.onnx\.link"):
        loaded.find_model()


def test_a_file_without_a_model_has_none(tmp_path: Path) -> None:
    assert write(tmp_path, {}).find_model() is None


def test_device_preprocessing_and_what_is_said_of_the_model_are_kept_apart_from_options(
    tmp_path: Path,
) -> None:
    session = {
        "target_device": "TDA4VM",
        "input_data_layout": "NHWC",
        "input_mean": [1, 2, 3],
        "session_name": "tflitert",
        "input_details": None,
        "runtime_options": {"tensor_bits": 8, "import": "yes", "info": {"prequantized_model_type": 1}},
    }
    loaded = write(tmp_path, session, preprocess={"resize": 20}, metric={})
    assert loaded.target == "tda4vm"
    assert loaded.preprocess == {"resize": 20, "data_layout": "NHWC", "input_mean": [1, 2, 3]}
    assert loaded.info == {"prequantized_model_type": 1}
    assert loaded.ignored == ("metric", "session.session_name")
    options = resolve_options([loaded.layer]).options
    assert (options.input_mean, options.prequantized_model) == ((1.0, 2.0, 3.0), None)


def test_mean_and_scale_that_go_into_the_network_are_not_applied_to_pictures(tmp_path: Path) -> None:
    session = {"input_mean": [1, 2, 3], "input_optimization": True}
    assert write(tmp_path, session, preprocess={"resize": 20}).preprocess == {"resize": 20}


def test_a_plain_options_file_may_describe_the_preprocessing(tmp_path: Path) -> None:
    (tmp_path / "o.yaml").write_text("tensor_bits: 8\npreprocess: {resize: 20, mean: 3}\n", "utf-8")
    loaded = load_options_file(tmp_path / "o.yaml")
    assert loaded.layer.values == {"tensor_bits": 8}
    assert loaded.preprocess == {"resize": 20, "mean": 3}


@pytest.mark.parametrize(
    ("session", "words"),
    [
        ([], "net_config.yaml, session: expected a mapping, found list"),
        (0, "net_config.yaml, session: expected a mapping, found int"),
        ({"runtime_options": ["tensor_bits"]}, "session.runtime_options: expected a mapping, found list"),
        ({"runtime_options": {"info": 3}}, "session.runtime_options.info: expected a mapping, found int"),
        ({"model_path": ["net.onnx"]}, "session.model_path: expected text, found ['net.onnx']"),
        ({"model_path": " "}, "session.model_path: expected text"),
        ({"target_device": 4}, "session.target_device: expected text, found 4"),
        ({"input_meen": [1]}, "session: unknown key 'input_meen' (did you mean input_mean?)"),
        ({"runtime_option": {}}, "did you mean runtime_options?"),
    ],
)
def test_a_session_that_is_not_understood_names_file_and_key(
    tmp_path: Path, session: object, words: str
) -> None:
    with pytest.raises(OptionError) as caught:
        write(tmp_path, session)
    assert words in str(caught.value)


def test_names_that_are_listed_twice_are_noted() -> None:
    names = effective(OptionLayer("x", {"params_16bit_names_list": "b a b"}))[
        "advanced_options:params_16bit_names_list"
    ]
    assert (names.value, names.effect) == (("b", "a", "b"), Effect.USED)
    assert "named more than once: b" in names.note


def published() -> list[Any]:
    root = os.environ.get("LOWTIDE_REAL_DATA")
    files = sorted((Path(root) / "vendor-configs").glob("*.yaml")) if root else []
    none = pytest.param(None, marks=pytest.mark.skip(reason="LOWTIDE_REAL_DATA names no folder"))
    return [pytest.param(file, id=file.stem) for file in files] or [none]


@pytest.mark.real
@pytest.mark.parametrize("file", published())
def test_every_published_configuration_resolves_with_marks(file: Path) -> None:
    loaded = load_options_file(file)
    content = yaml.safe_load(file.read_text("utf-8"))
    runtime = content["session"]["runtime_options"]
    found = effective(loaded.layer)
    assert found["tensor_bits"].value == runtime["tensor_bits"]
    text = runtime["advanced_options:output_feature_16bit_names_list"]
    names = found["advanced_options:output_feature_16bit_names_list"].value
    assert list(names) == [name.strip() for name in text.split(",") if name.strip()]
    assert (found[FRAMES].value is None) == (runtime[FRAMES] < 10)
    assert loaded.model_path == content["session"]["model_path"]
    assert loaded.target is None
    assert set(loaded.info) == {"prequantized_model_type"}
    words = preprocess_in_words(Preprocess.from_mapping(loaded.preprocess or {}, place=file.name))
    assert str(content["preprocess"]["backend"]) in words["library"]
    assert words["layout"] == content["preprocess"]["data_layout"]
    assert ("blue first" in words["channels"]) == content["preprocess"]["reverse_channels"]
