"""The report: one self-contained HTML file with pictures of a run. Each section is a function from data to a fragment."""

from __future__ import annotations

from dbgvmm.report.machine_report import machine_report
from dbgvmm.report.page import Fact, Section, page

__all__ = ["Fact", "Section", "machine_report", "page"]
