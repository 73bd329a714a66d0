"""Run folders -> tables, figures and one page that says plainly what was found."""

from __future__ import annotations

from sartor.report.collect import Collection as Collection
from sartor.report.collect import RunRecord as RunRecord
from sartor.report.collect import collect as collect
from sartor.report.page import Report as Report
from sartor.report.page import write_report as write_report
from sartor.report.statistics import Interval as Interval
from sartor.report.statistics import mean_interval as mean_interval
from sartor.report.statistics import paired_difference as paired_difference
from sartor.report.table import Block as Block
from sartor.report.table import Row as Row
from sartor.report.table import tabulate as tabulate
from sartor.report.verdict import Verdict as Verdict
from sartor.report.verdict import judge as judge
