"""The report: its data, and its forms for the terminal and for programs."""

from __future__ import annotations

from lowtide.report.json import report_json
from lowtide.report.model import Report
from lowtide.report.render import render_report
from lowtide.report.section import Section
from lowtide.report.terminal import render_measurement

__all__ = ["Report", "Section", "render_measurement", "render_report", "report_json"]
