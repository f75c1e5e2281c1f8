"""Plugins are found by entry point, conflicts are loud, and a broken plugin harms only itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lowtide.errors import PluginConflictError, PluginError, UnknownNameError
from lowtide.plugin import CalibratorSpec, EmitterSpec, PassSpec, Registry, StrategySpec, TargetSpec, discover

DATA = Path(__file__).parent / "data"
Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts folders that look like installed distributions on the path."""

    def put(*cases: str | Path) -> None:
        for case in cases:
            monkeypatch.syspath_prepend(str(DATA / case))

    before = set(sys.modules)
    yield put
    for name in set(sys.modules) - before:
        if name.startswith("fake"):
            del sys.modules[name]


def provided(registry: Registry) -> list[str]:
    return [str(provider) for provider in registry.providers if provider.distribution.startswith("fake")]


def test_a_plugin_is_found_with_the_distribution_and_version_that_provide_it(install: Install) -> None:
    install("good")
    registry = discover()
    assert provided(registry) == ["fake-good 1.2 (fake)"]
    spec = registry.get(CalibratorSpec, "fake-range")
    assert str(registry.provider(spec)) == "fake-good 1.2 (fake)"
    assert "fake_good_parts" not in sys.modules
    assert registry.load(CalibratorSpec, "fake-range").name == "fake-range"


def test_contributions_are_listed_by_name(install: Install) -> None:
    install("good")
    names = [spec.name for spec in discover().all(CalibratorSpec)]
    assert names == sorted(names)
    assert "fake-range" in names


def test_a_target_is_found_by_its_alias(install: Install) -> None:
    install("good")
    assert discover().get(TargetSpec, "fake").name == "fake-device"


@pytest.mark.parametrize(
    ("case", "provider", "reason"),
    [
        ("broken", "fake-broken 0.3 (broken)", "ImportError: the driver is missing"),
        ("leaving", "fake-leaving 1 (leaving)", "SystemExit: no license found"),
        ("typo", "fake-typo 1 (typo)", "lowtide_register_calibratos"),
        (
            "record",
            "fake-record 1 (record)",
            "lowtide_register_emitters should return EmitterSpec, found MetricSpec",
        ),
        ("raising", "fake-raising 1 (raising)", "found 'Not A Name'"),
        ("returning", "fake-returning 1 (returning)", "lowtide_register_metrics failed: TypeError"),
    ],
)
def test_a_broken_plugin_is_isolated_and_named(
    install: Install, case: str, provider: str, reason: str
) -> None:
    install("good", case)
    registry = discover()
    broken = {str(who): why for who, why in registry.broken.items()}
    assert reason in broken[provider]
    assert provided(registry) == ["fake-good 1.2 (fake)"]


def test_a_plugin_contributes_all_or_nothing(install: Install) -> None:
    install("record")
    assert "fake-file" not in [spec.name for spec in discover().all(EmitterSpec)]


@pytest.mark.parametrize("case", ["broken", "leaving", "typo", "record", "raising"])
def test_a_broken_plugin_is_an_error_in_strict_mode(install: Install, case: str) -> None:
    install(case)
    with pytest.raises(PluginError, match="the plugin failed to load") as caught:
        discover(strict=True)
    assert caught.value.place.startswith(f"fake-{case}")


def test_an_unknown_name_mentions_broken_plugins_and_near_names(install: Install) -> None:
    install("good", "broken")
    with pytest.raises(UnknownNameError, match="did you mean fake-range ") as caught:
        discover().get(CalibratorSpec, "fake-rnge")
    assert "fake-broken 0.3 (broken) is broken and may have provided it" in str(caught.value)


def test_two_plugins_with_the_same_name_are_both_named_with_their_versions(install: Install) -> None:
    install("clash")
    with pytest.raises(PluginConflictError) as caught:
        discover()
    message = str(caught.value)
    assert "fake-one 1.0 (one) and fake-two 2.5 (two) both provide the strategy 'fake-best'" in message
    assert "--disable-plugin two" in message


def test_who_takes_a_name_that_comes_with_lowtide_is_the_one_to_disable(install: Install) -> None:
    install("taking")
    with pytest.raises(PluginConflictError) as caught:
        discover()
    assert "(calibrators) and fake-taking 1 (a-taking) both provide" in caught.value.message
    assert caught.value.hint == "uninstall fake-taking or use --disable-plugin a-taking"


def test_a_disabled_plugin_is_not_imported_and_its_conflict_is_gone(install: Install) -> None:
    install("clash", "broken")
    registry = discover(disabled=["two", "broken"], strict=True)
    assert str(registry.provider(registry.get(StrategySpec, "fake-best"))) == "fake-one 1.0 (one)"
    assert {"fake_broken", "fake_clash_two"}.isdisjoint(sys.modules)


def test_disabling_a_plugin_that_does_not_exist_is_an_error(install: Install) -> None:
    install("broken")
    with pytest.raises(UnknownNameError, match=r"did you mean broken\?"):
        discover(disabled=["brokne"])


def test_a_plugin_for_another_api_is_listed_and_never_imported(install: Install) -> None:
    install("future", "unrelated")
    registry = discover(strict=True)
    assert {str(who): why for who, why in registry.unfit.items()} == {
        "fake-future 9 (future)": "made for lowtide.v2, this is lowtide.v1"
    }
    assert "fake_future" not in sys.modules


def test_the_same_distribution_twice_on_the_path_is_fine(install: Install, tmp_path: Path) -> None:
    shutil.copytree(DATA / "good", tmp_path / "copy")
    install("good", tmp_path / "copy")
    assert provided(discover(strict=True)) == ["fake-good 1.2 (fake)"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fake-lost", "fake_nowhere:Lost cannot be loaded: No module named 'fake_nowhere'"),
        ("fake-absent", "has no attribute 'Absent'"),
        ("fake-crash", "fake_good_crash:Anything cannot be loaded: no license found"),
        ("fake-exit", "fake_good_exit:Anything cannot be loaded: SystemExit: no license found"),
        ("fake-plain", "fake_good_parts:Plain lacks the decorator @attrs.frozen"),
        ("fake-partial", "fake_good_parts:Partial does not implement range"),
        (
            "fake-number",
            "fake_good_parts:NUMBER should be a class derived from lowtide.calibrate.api:Calibrator",
        ),
    ],
)
def test_an_implementation_that_does_not_load_names_its_provider(
    install: Install, name: str, message: str
) -> None:
    install("good")
    with pytest.raises(PluginError) as caught:
        discover().load(CalibratorSpec, name)
    assert message in caught.value.message
    assert caught.value.place == f"calibrator {name}"
    assert "provided by fake-good 1.2 (fake)" in str(caught.value)


def test_a_pass_with_another_name_than_its_record_is_refused(install: Install) -> None:
    install("good")
    with pytest.raises(PluginError, match="fake_good_parts:Misnamed has the name 'misnamed'"):
        discover().load(PassSpec, "fake-misnamed")


def test_a_target_whose_file_is_missing_is_refused(install: Install) -> None:
    install("good")
    with pytest.raises(PluginError, match=r"fake_good:device\.toml cannot be read"):
        discover().load(TargetSpec, "fake-device")


def test_finding_plugins_imports_no_implementation_and_no_runtime() -> None:
    heavy = [
        "onnx",
        "onnxruntime",
        "tflite",
        "numpy",
        "PIL",
        "lowtide.ir",
        "lowtide.calibrate",
        "lowtide.passes",
    ]
    code = (
        "import sys\n"
        "from lowtide.plugin import discover\n"
        "registry = discover()\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
        "print([str(provider) for provider in registry.providers])\n"
    )
    path = [*sys.path, str(DATA / "good")]
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in path if entry)},
    )
    loaded, providers = done.stdout.splitlines()
    assert loaded == "[]"
    assert "fake-good 1.2 (fake)" in providers
