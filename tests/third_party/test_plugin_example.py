"""What a third party's distribution adds works everywhere; tox installs it in plugin-example."""

from __future__ import annotations

import importlib
import json
from importlib import resources
from pathlib import Path

import pytest

import lowtide
from lowtide.cli import main
from lowtide.ir import parse_graph
from lowtide.plugin import CalibratorSpec, PassSpec, discover
from lowtide.plugin.testing import check_calibrator, check_pass, check_plugin, check_target

pytest.importorskip("acme_lowtide", reason="the distribution in tests/plugin_example is not installed")

DEMO = resources.files("lowtide_plugins.demo")
MODEL, DATA = str(DEMO / "digits.onnx"), str(DEMO / "digits_calib.npz")


def test_the_listing_names_the_distribution_and_version_that_provide_the_calibrator(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["calibrators", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["headroom"]["distribution"] == "acme-lowtide"
    assert rows["headroom"]["version"] == "1.2.0"
    assert rows["minmax"]["distribution"] == "lowtide"


def test_all_three_are_used_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compile", MODEL, "--target", "acme-box", "--data", DATA, "--calibrator", "headroom"]
    pipeline = "infer-shapes,fold-batch-norm,acme-clamp-weights{limit=0.5},fuse-layers"
    arguments += ["--set", f"prepare={pipeline}", "--output", str(tmp_path / "out"), "--no-cache", "--json"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["device"]["name"] == "acme-box"
    assert report["calibration"]["calibrator"].startswith("headroom of acme-lowtide 1.2.0")
    clamp = next(item for item in report["passes"] if item["text"] == "acme-clamp-weights{limit=0.5}")
    assert clamp["counters"]["clamped"] > 0


def test_the_calibrator_widens_the_ranges_when_chosen_from_python() -> None:
    alone = {"scales": ""}
    plain = lowtide.compile(MODEL, target="acme-box", data=DATA, calibrator="minmax", options=alone)
    wide = lowtide.compile(MODEL, target="acme-box", data=DATA, calibrator="headroom", options=alone)
    for name, seen in plain.ranges.items():
        width = seen.max - seen.min
        assert wide.ranges[name].max == pytest.approx(seen.max + 0.1 * width)


def test_the_calibrator_is_selected_by_an_options_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = tmp_path / "options.yaml"
    options.write_text("calibrator: headroom\ntensor_bits: 8\n", "utf-8")
    arguments = ["compile", MODEL, "--target", "acme-box", "--data", DATA, "--options", str(options)]
    assert main([*arguments, "--output", str(tmp_path / "out"), "--no-cache", "--json"]) == 0
    chosen = {option["name"]: option for option in json.loads(capsys.readouterr().out)["options"]}
    assert chosen["calibrator"]["value"] == "headroom"
    assert "options.yaml" in chosen["calibrator"]["origin"]


def test_the_plugin_keeps_the_contracts() -> None:
    acme = importlib.import_module("acme_lowtide")
    registry = discover()
    check_plugin(acme)
    check_calibrator(registry.load(CalibratorSpec, "headroom")(margin=0.2), registry)
    check_target("acme-box", registry)
    graph = parse_graph(
        """graph "g" {
          input %x: float32[1, 1, 4, 4]
          const %w: float32[1, 1, 1, 1] = fill(3.0)
          %y: float32[1, 1, 4, 4] = Conv(%x, %w)
          return %y
        }"""
    )
    check_pass(registry.load(PassSpec, "acme-clamp-weights"), graph, limit=0.5)


def test_the_registry_knows_the_provider_without_importing_the_implementation() -> None:
    registry = discover()
    spec = registry.get(CalibratorSpec, "headroom")
    assert str(registry.provider(spec)) == "acme-lowtide 1.2.0 (acme)"
