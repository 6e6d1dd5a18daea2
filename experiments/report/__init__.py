"""The governance report: what a delegate reads, and what an analyst checks it with."""

from experiments.report.inputs import Pair, ReportInput
from experiments.report.stored import stored_report
from experiments.report.write import write_report

__all__ = ["Pair", "ReportInput", "stored_report", "write_report"]
