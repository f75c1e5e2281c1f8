from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import pytest

from browser.conftest import Open
from browser.networks import NASTY, START_MS, WIDE, WIDE_WEIGHTS
from lowtide.measure.gates import report_figures
from lowtide.report import Report

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.xdist_group("browser")  # one browser, and one compile of the deep network

Reports = Callable[[str], Report]


def names(page: Page) -> list[str]:
    """The layers of the table as they stand."""
    found: list[str] = page.eval_on_selector_all(
        "#layer-table tbody tr", "rows => rows.map((row) => row.dataset.layer)"
    )
    return found


def heading(page: Page, text: str) -> None:
    page.get_by_role("columnheader", name=text, exact=True).get_by_role("button").click()


def worst_first(report: Report) -> list[str]:
    """Layers by their own error, those without a figure last, all else in their order."""

    def badness(place: tuple[int, float | None]) -> tuple[bool, float, int]:
        index, error = place
        return error is None, error or 0.0, index

    order = sorted(((i, layer.sqnr_isolated_db) for i, layer in enumerate(report.layers)), key=badness)
    return [report.layers[i].name for i, _ in order]


@pytest.mark.parametrize(
    ("name", "scheme", "width"),
    [("demo", "light", 1280), ("demo", "dark", 390), ("deep", "light", 390), ("deep", "dark", 1280)],
)
def test_the_page_shows_every_part_and_fits(
    opened: Open, reports: Reports, name: str, scheme: str, width: int
) -> None:
    page, report = opened(name, scheme=scheme, width=width).page, reports(name)
    sections = page.eval_on_selector_all("main > section", "all => all.map((one) => one.id)")
    expected = {"summary", "todo", "error", "layers", "weights", "graph", "options", "passes"}
    parts = {"latency": report.latency_ms, "front": report.front, "steps": report.steps}
    expected |= {part for part, found in parts.items() if found}
    expected |= {"section-a-plugin-s-section"} if report.sections else set()
    assert set(sections) == expected
    assert name == "demo" or set(parts) < expected
    assert len(names(page)) == len(report.layers)
    assert page.locator(".graph .node").count() == len(report.layers) + len(report.inputs)
    assert page.locator(".dot-alone").count() > 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for chart in page.locator("svg.chart").all():
        box, around = chart.bounding_box(), chart.locator("xpath=..").bounding_box()
        assert box
        assert around
        assert box["width"] <= around["width"]


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_colours_follow_the_system_and_text_can_be_read(opened: Open, scheme: str, *, dark: bool) -> None:
    page = opened("demo", scheme=scheme).page

    def luminance(selector: str, what: str) -> float:
        text = page.eval_on_selector(selector, f"(one) => getComputedStyle(one).{what}")
        channels = [int(part) / 255 for part in re.findall(r"\d+", text)[:3]]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    back = luminance("section", "backgroundColor")
    assert (back < 0.1) == dark
    for selector in ("h2", ".quiet", "#layer-table .good, #layer-table .fair, #layer-table .poor", ".link"):
        high, low = sorted((back, luminance(selector, "color")), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, selector  # WCAG 2.1, level AA


def test_the_worst_layer_comes_first_and_a_heading_sorts(opened: Open, reports: Reports) -> None:
    page, report = opened("deep").page, reports("deep")
    assert names(page) == worst_first(report)
    heading(page, "alone dB")
    known = [layer.name for layer in report.layers if layer.sqnr_isolated_db is not None]
    turned = names(page)
    assert sorted(turned[: len(known)]) == sorted(known)
    assert turned[0] == max(report.layers, key=lambda layer: layer.sqnr_isolated_db or 0.0).name
    heading(page, "latency")
    by_latency = sorted(range(len(report.layers)), key=lambda i: (-(report.layers[i].latency_ms or 0.0), i))
    assert names(page) == [report.layers[i].name for i in by_latency]
    cell = page.get_by_role("columnheader", name="latency", exact=True)
    assert cell.get_attribute("aria-sort") == "descending"


def test_the_keyboard_sorts_and_opens_a_layer(opened: Open, reports: Reports) -> None:
    page, report = opened("demo").page, reports("demo")
    page.get_by_role("columnheader", name="#", exact=True).get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert names(page) == [layer.name for layer in report.layers]
    page.locator("#layer-table tbody .link").first.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_role("heading").first.inner_text() == report.layers[0].name
    page.get_by_role("button", name="next layer").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")  # the focus stays on the button
    assert dialog.get_by_role("heading").first.inner_text() == report.layers[2].name
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_the_filter_narrows_the_table_and_the_graph(opened: Open, reports: Reports) -> None:
    page, report = opened("deep").page, reports("deep")
    page.get_by_role("searchbox").fill("block7 expand")
    expected = {layer.name for layer in report.layers if "block7" in layer.name and "expand" in layer.name}
    assert set(names(page)) == expected
    assert 1 < len(expected) < 20
    assert page.locator(".node.pale").count() == len(report.layers) - len(expected)
    page.get_by_role("searchbox").fill("")
    page.get_by_role("combobox", name="which layers").select_option("wide")
    assert set(names(page)) == {WIDE, WIDE_WEIGHTS}
    page.get_by_role("combobox", name="which layers").select_option("host")
    assert set(names(page)) == {layer.name for layer in report.layers if layer.placement == "host"}


def test_a_layer_shows_its_histogram_and_weights(opened: Open, reports: Reports) -> None:
    page, report = opened("demo").page, reports("demo")
    layer = report.layers[1]
    assert layer.histogram
    assert layer.weights
    page.get_by_role("button", name=layer.name, exact=True).last.click()
    histogram, weights = page.locator("dialog svg.chart").all()
    assert histogram.locator(".fill-data").count() == sum(count > 0 for count in layer.histogram.counts)
    assert histogram.locator(".line-clip").count() == histogram.locator(".line-range").count() == 2
    assert weights.locator(".fill-data").count() == layer.weights.channels
    linear = [histogram.locator(".fill-data").nth(0).get_attribute("height")]
    page.get_by_role("checkbox", name="logarithmic counts").uncheck()
    linear.append(page.locator("dialog svg.chart .fill-data").nth(0).get_attribute("height"))
    assert linear[0] != linear[1]
    page.get_by_role("button", name="show in the graph").click()
    assert page.locator(".node.wanted").text_content() is not None
    assert not page.get_by_role("dialog").is_visible()


def test_charts_tell_what_is_under_the_cursor(opened: Open, reports: Reports) -> None:
    page, report = opened("deep").page, reports("deep")
    chart = page.locator("#error svg.chart")
    chart.focus()
    for key in ("Home", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    tip = page.locator("#tip")
    error = report.layers[2].sqnr_isolated_db
    assert error is not None
    assert report.layers[2].name in tip.inner_text()
    assert f"{error:.1f}" in tip.inner_text()
    page.keyboard.press("Enter")
    assert page.get_by_role("dialog").get_by_role("heading").first.inner_text() == report.layers[2].name


def test_nodes_of_the_graph_do_not_overlap_and_stand_below_what_they_read(
    opened: Open, reports: Reports
) -> None:
    page, report = opened("deep").page, reports("deep")
    places = page.eval_on_selector_all(
        ".graph .node",
        "all => all.map((one) => one.transform.baseVal[0].matrix).map((matrix) => [matrix.e, matrix.f])",
    )
    names_ = [entry.name for entry in report.inputs] + [layer.name for layer in report.layers]
    place = dict(zip(names_, places, strict=True))
    assert len({tuple(at) for at in places}) == len(places)
    for layer in report.layers:
        assert all(place[name][1] < place[layer.name][1] for name in layer.inputs)
    rows: dict[float, list[float]] = {}
    for x, y in places:
        rows.setdefault(y, []).append(x)
    for row in map(sorted, rows.values()):
        assert all(right - left >= 196 for left, right in itertools.pairwise(row))


@pytest.mark.parametrize(
    ("width", "height"), [(1280, 900), (1280, 1200), (1280, 700), (1280, 400), (800, 900), (390, 900)]
)
def test_fit_shows_the_whole_graph(opened: Open, width: int, height: int) -> None:
    page = opened("deep", width=width, height=height).page
    page.get_by_role("button", name="whole graph").click()
    view, drawing = page.locator(".graph-view"), page.locator("svg.graph")
    assert view.evaluate(
        "one => [one.scrollWidth - one.clientWidth, one.scrollHeight - one.clientHeight]"
    ) == [
        0,
        0,
    ]
    full = drawing.bounding_box()
    page.get_by_role("button", name="larger").click()
    page.get_by_role("button", name="whole graph").click()
    assert drawing.bounding_box() == full


def test_layers_in_16_bits_are_those_of_the_gate_and_host_layers_stand_apart(
    opened: Open, reports: Reports
) -> None:
    page, report = opened("deep").page, reports("deep")
    tile = page.locator(".tile", has_text="in 8 bits").inner_text()
    device = report.device
    assert report_figures(attrs.asdict(report), ("layers_16bit",)) == {"layers_16bit": 2}
    assert f"{device.accelerator_layers - 2} of {device.accelerator_layers}" in tile
    assert "2 in 16 bits" in tile
    assert f"{device.host_layers} more on the host" in tile


def test_shares_of_latency_are_those_of_the_whole_network(opened: Open, reports: Reports) -> None:
    page, report = opened("deep").page, reports("deep")
    text = page.locator("#latency p").inner_text()
    assert report.latency_ms
    slowest = max(layer.latency_ms or 0.0 for layer in report.layers)
    found = [float(share) for share in re.findall(r"([\d.]+) %", text)]
    assert found[0] == pytest.approx(100 * slowest / report.latency_ms, rel=0.01)
    assert found[-1] == pytest.approx(100 * START_MS / report.latency_ms, rel=0.01)
    assert "the start of the network" in text


def test_the_host_has_one_colour_everywhere(opened: Open) -> None:
    page = opened("deep").page

    def colour(selector: str, what: str) -> str:
        return str(page.locator(selector).first.evaluate(f"one => getComputedStyle(one).{what}"))

    found = {
        colour("#summary .share .on-host", "fill"),
        colour("#layers .place .on-host", "backgroundColor"),
        colour("#latency .legend li:has-text('host') i", "backgroundColor"),
        colour("#latency .bound-host", "backgroundColor"),
        colour("#graph .legend .on-host", "backgroundColor"),
        colour("#graph .node .on-host", "stroke"),
    }
    assert len(found) == 1


def test_what_the_chart_of_errors_marks_has_a_key(opened: Open, reports: Reports) -> None:
    page, report = opened("deep").page, reports("deep")
    assert page.locator("#error svg .found").count() == len(report.findings)
    assert page.locator("#error .legend", has_text="with a finding").count() == 1
    odd = opened("odd").page
    axis = odd.locator("#error svg .tick").all_text_contents()
    assert "exact" in axis
    assert "lost" in axis


@pytest.mark.parametrize("width", [1280, 390])
def test_a_table_that_goes_on_to_the_right_says_so_until_its_end(opened: Open, width: int) -> None:
    page = opened("deep", width=width).page
    view = page.get_by_role("region", name="layers", exact=True)
    frame = page.locator(".edged")
    hidden = view.evaluate("one => one.scrollWidth - one.clientWidth")
    assert ("more" in (frame.get_attribute("class") or "").split()) == (hidden > 1)
    assert width == 1280 or hidden > 1
    view.evaluate("one => one.scrollTo(one.scrollWidth, 0)")
    page.wait_for_function("!document.querySelector('.edged').classList.contains('more')")


def test_names_are_text_and_never_markup(opened: Open, reports: Reports) -> None:
    page, report = opened("deep").page, reports("deep")
    nasty = [layer.name for layer in report.layers if layer.name.startswith(NASTY)]
    assert nasty
    assert page.locator("main b").count() == 0
    page.get_by_role("searchbox").fill(NASTY)
    assert sorted(names(page)) == sorted(nasty)


def test_odd_figures_have_words(opened: Open, reports: Reports) -> None:
    page, report = opened("odd").page, reports("odd")
    heading(page, "#")
    rows = [row.inner_text() for row in page.locator("#layer-table tbody tr").all()]
    assert len(rows) == len(report.layers)
    assert "exact" in rows[1]
    assert "lost" in rows[1]
    assert not any(re.search(r"NaN|undefined|null|Infinity", row) for row in rows)
    for layer in report.layers:
        page.locator("#layer-table tbody .link").get_by_title(layer.name, exact=True).click()
        assert page.get_by_role("dialog").get_by_role("heading").first.inner_text() == layer.name
        page.get_by_role("button", name="close").click()


def test_a_report_of_nothing_is_a_page_too(opened: Open) -> None:
    page = opened("bare").page
    assert "Nothing was measured" in page.locator("#summary").inner_text()
    assert names(page) == []


def test_findings_stand_at_the_top_with_an_option_to_copy(opened: Open, reports: Reports) -> None:
    page, report = opened("deep").page, reports("deep")
    cards = page.locator("#todo .card.finding")
    assert cards.count() == len(report.findings)
    assert cards.first.locator("code").inner_text() == "--set calibrator=percentile"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    cards.first.get_by_role("button", name="copy", exact=True).click()
    cards.first.get_by_role("button", name="copied", exact=True).wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "--set calibrator=percentile"
