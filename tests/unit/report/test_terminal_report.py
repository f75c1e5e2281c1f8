from __future__ import annotations

import io
import re
from pathlib import Path

import attrs
import pytest
from rich.console import Console, RenderableType

from lowtide.measure import ErrorSum, LayerError, Measurement
from lowtide.report import Report, render_measurement, render_report
from lowtide.report.model import AgreementReport, FrontPoint, GoalReport, OutputReport
from lowtide.report.terminal import apart, milliseconds
from unit.report.reports import FULL, LAYERS, LONG

STORED = Path(__file__).parent / "data"
WIDTHS = [60, 80, 120, 200]
BOX_DRAWING = re.compile("[\u2500-\u257f\n -~]*")


def rendered(renderable: RenderableType, width: int = 80) -> str:
    file = io.StringIO()
    console = Console(width=width, file=file, color_system=None, legacy_windows=False)
    console.print(renderable)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def coloured(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    file = io.StringIO()
    Console(width=80, file=file, force_terminal=True, color_system="standard").print(render_report(FULL))
    return file.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_reads_as_stored(width: int) -> None:
    assert rendered(render_report(FULL), width) == (STORED / f"report-{width}.txt").read_text("utf-8")


@pytest.mark.parametrize("width", [40, *WIDTHS])
@pytest.mark.parametrize("every_layer", [False, True])
def test_no_line_is_wider_than_the_console(width: int, *, every_layer: bool) -> None:
    many = attrs.evolve(FULL, layers=LAYERS * 10)
    lines = rendered(render_report(many, every_layer=every_layer), width).splitlines()
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_only_ascii_and_box_drawing_characters_are_printed(width: int) -> None:
    assert BOX_DRAWING.fullmatch(rendered(render_report(FULL), width))


def test_a_terminal_without_unicode_gets_ascii() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(width=80, file=file, color_system=None, legacy_windows=False).print(render_report(FULL))


def test_long_names_are_folded_and_not_cut() -> None:
    text = rendered(render_report(FULL), 60)
    layers = text[text.index("layers on the accelerator") : text.index("on the host, in float")]
    rows = [line.split()[0] for line in layers.splitlines() if line and not line.startswith(" ")]
    assert LONG in "".join(rows)


def test_no_colour_where_it_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    colours = re.compile(r"\x1b\[(?:\d+;)*3\d(?:;\d+)*m")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert colours.search(coloured(monkeypatch))
    assert not colours.search(coloured(monkeypatch, NO_COLOR="1"))


def test_markup_in_names_and_texts_is_printed_as_it_stands() -> None:
    text = rendered(render_report(FULL), 200)
    for expected in (
        "[bold]gate[/]",
        "ACME One (rev. [b])",
        "no effect [x]",
        "a [section]",
        "[unclosed tag",
        "outliers [sic]",
        "memory [DDR]",
        "2 layers [a, b]",
        "correct-bias{frames=[8]}",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("coded", "sentence"),
    [
        (0, "differ in 1.00% by 1; outputs are float and not compared in codes"),
        (1, "from end to end 2.00% by at most 3; 1 of 2 outputs are float and not compared in codes"),
        (2, "from end to end 2.00% by at most 3"),
    ],
)
def test_outputs_without_codes_are_not_compared_in_codes(coded: int, sentence: str) -> None:
    agreement = AgreementReport(
        arithmetic="shift",
        layers=4,
        layer_share=0.01,
        layer_largest=1,
        outputs=coded,
        output_share=0.02 if coded else None,
        output_largest=3 if coded else None,
    )
    outputs = tuple(OutputReport(name=name, sqnr_db=9.0, cosine=1.0, max_error=0.0) for name in "ab")
    text = " ".join(rendered(render_report(attrs.evolve(FULL, agreement=agreement, outputs=outputs))).split())
    assert sentence in text
    assert ("not compared in codes" in text) == (coded < 2)


def test_infinite_and_undefined_figures_have_words() -> None:
    text = rendered(render_report(FULL), 240)
    row = next(line for line in text.splitlines() if line.startswith(LONG))
    assert row.split()[-5:-3] == ["exact", "lost"]
    assert re.search(r"^zero +exact +- +0$", text, re.MULTILINE)
    assert not re.search(r"\b(nan|inf)\b", text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (2e-5, "<0.0001"),
        (0.0004, "0.000400"),
        (1, "1.00"),
        (123.4, "123"),
        (4567.8, "4,568"),
    ],
)
def test_latencies_have_three_digits_and_no_powers_of_ten(value: float | None, text: str) -> None:
    assert milliseconds(value) == text


def test_latencies_have_more_digits_where_three_make_different_ones_equal() -> None:
    assert apart([1.0, 2.0]) == ["1.00", "2.00"]
    assert apart([1.0163, 1.0189, 1.0163]) == ["1.016", "1.019", "1.016"]
    assert apart([1.0, 1.0 + 1e-12]) == ["1.000000", "1.000000"]


def test_points_of_the_front_are_told_apart_by_their_latency() -> None:
    front = [
        FrontPoint(latency_ms=ms, error_db=db, label="x", chosen=False)
        for ms, db in ((1.0163, 30.0), (1.0189, 31.0))
    ]
    text = rendered(render_report(attrs.evolve(FULL, front=tuple(front))))
    assert re.search(r"x +1\.016 +~30\.0\n.*x +1\.019 +~31\.0", text)


def test_a_goal_stands_at_the_top_with_what_was_held_against_it() -> None:
    goal = GoalReport(condition="sqnr>=30", reached=False, figure=28.125, unit="dB", frames=1)
    text = rendered(render_report(attrs.evolve(FULL, goal=goal, latency_ms=1.5)))
    assert re.search(r"goal +sqnr>=30: missed, 28\.125 dB on 1 frame in 1\.50 ms", text)
    assert "goal" not in rendered(render_report(FULL)).partition("outputs against")[0]


def test_an_input_in_16_bits_stands_beside_the_layers_that_have_them() -> None:
    inputs = (attrs.evolve(FULL.inputs[0], bits=16, width_reason="16 bit because image is listed"),)
    text = rendered(render_report(attrs.evolve(FULL, inputs=inputs)), 120)
    table = text.partition("in 16 bits\n")[2]
    assert re.search(r"image +16 bit because image is listed +16 +-\n", table)


def test_a_report_without_layers() -> None:
    device = attrs.evolve(FULL.device, accelerator_layers=0, host_layers=0, subgraphs=0)
    text = rendered(render_report(attrs.evolve(FULL, layers=(), device=device)))
    assert "no layer runs on the accelerator" in text
    assert "0 layers on the accelerator in 0 parts" in text


def test_a_report_of_an_unmeasured_network() -> None:
    bare = attrs.evolve(FULL, outputs=(), measured_frames=0, calibration=None, passes=(), options=())
    text = rendered(render_report(bare))
    for expected in ("nothing was measured", "no pass changed anything", "all options have their defaults"):
        assert expected in text
    assert "calibration" not in text


def test_parts_that_were_not_made_are_left_out() -> None:
    layers = tuple(attrs.evolve(layer, latency_ms=None, bound="") for layer in LAYERS)
    bare = attrs.evolve(FULL, latency_ms=None, findings=(), steps=(), front=(), layers=layers)
    text = rendered(render_report(bare), 200)
    for absent in (
        "latency",
        "ms",
        "bound",
        "widths that were weighed",
        "steps for accuracy",
        "why the worst",
    ):
        assert not re.search(rf"\b{absent}\b", text)


def test_remedies_come_last_and_causes_in_their_order() -> None:
    text = rendered(render_report(FULL), 120)
    places = [text.index(part) for part in ("a [section]", "LT891", "LT895", "notes and remedies", "LT755")]
    assert places == sorted(places)
    assert "-> --set calibrator=percentile\n" in text


def test_findings_beyond_the_first_are_counted() -> None:
    text = rendered(render_report(attrs.evolve(FULL, findings=FULL.findings * 10)), 80)
    assert "and 8 more in report.json" in text


def test_of_a_long_front_the_ends_and_the_chosen_point_are_shown() -> None:
    front = tuple(
        FrontPoint(
            latency_ms=float(i + 1),
            error_db=10.0 + i,
            label=f"point {i}",
            chosen=i == 37,
            number=i,
            measured=True,
        )
        for i in reversed(range(100))
    )
    text = rendered(render_report(attrs.evolve(FULL, front=front)), 80)
    rows = re.findall(r"^(\d+) +(chosen)? +point \d+ +([\d.]+) +([\d.]+)$", text, re.MULTILINE)
    numbers = [int(row[0]) for row in rows]
    assert numbers == sorted(numbers)
    assert {0, 37, 99} <= set(numbers)
    assert len(rows) == 13
    assert [row[0] for row in rows if row[1]] == ["37"]
    assert "and 87 more in report.json" in text


def test_a_wide_terminal_shows_more_of_a_layer() -> None:
    def heading(width: int) -> list[str]:
        lines = rendered(render_report(FULL), width).splitlines()
        return next(line for line in lines if line.startswith("layer ")).split()

    assert heading(60) == ["layer", "codes", "alone", "sum", "ms"]
    assert set(heading(60)) < set(heading(80)) < set(heading(120)) < set(heading(200))


def layer_lines(report: Report, *, every_layer: bool) -> list[str]:
    text = rendered(render_report(report, every_layer=every_layer), 120)
    return [line for line in text.splitlines() if re.match(r"layer\d", line)]


def test_the_worst_layers_come_first_and_every_layer_in_order() -> None:
    layers = tuple(
        attrs.evolve(LAYERS[0], name=f"layer{index}", sqnr_isolated_db=float(index * 7 % 20))
        for index in range(20)
    )
    report = attrs.evolve(FULL, layers=layers)
    worst = layer_lines(report, every_layer=False)
    figures = [float(line.split()[-4]) for line in worst]
    assert figures == [float(index) for index in range(12)]
    assert [line.split()[0] for line in layer_lines(report, every_layer=True)] == [
        layer.name for layer in layers
    ]


def test_warnings_stand_before_notes() -> None:
    text = rendered(render_report(FULL), 200)
    assert text.index("LT755") < text.index("LT451")


def test_hosts_beyond_the_first_are_counted() -> None:
    report = attrs.evolve(FULL, layers=(LAYERS[3],) * 15)
    assert "and 3 more" in rendered(render_report(report))


def test_a_measurement_lists_the_worst_isolated_layer_first() -> None:
    def error(name: str, isolated: float | None) -> LayerError:
        alone = None if isolated is None else ErrorSum(signal=10.0**isolated, noise=1.0)
        return LayerError(layer=name, isolated=alone, cumulative=ErrorSum(signal=1e3, noise=1.0))

    errors = (error("good", 5.0), error("bad", 1.0), error("none", None), error("[x]", 4.0))
    found = Measurement(frames=3, layers=errors, outputs={"out": ErrorSum(signal=0.0, noise=0.0)})
    text = rendered(render_measurement(found))
    names = ["bad", "none", "[x]", "good"]
    assert [
        line.split()[0] for line in text.splitlines() if line.split()[:1] and line.split()[0] in names
    ] == names
    assert re.search(r"^out +exact +- +0$", text, re.MULTILINE)
