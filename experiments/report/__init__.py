"""The governance report: what a delegate reads, and what an analyst checks it with."""

from experiments.report.inputs import FitRow, Pair, ReportInput
from experiments.report.write import write_report

__all__ = ["FitRow", "Pair", "ReportInput", "write_report"]
