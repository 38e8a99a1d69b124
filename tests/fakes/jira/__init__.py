"""A Jira that behaves as Cloud or Server does, with the truncation, paging and faults of each."""

from tests.fakes.jira.expected_counts import ExpectedCounts, expected_counts
from tests.fakes.jira.generate import generate
from tests.fakes.jira.load import load
from tests.fakes.jira.service import JiraService, serve
from tests.fakes.jira.site import Limits, Site

__all__ = [
    "ExpectedCounts",
    "JiraService",
    "Limits",
    "Site",
    "expected_counts",
    "generate",
    "load",
    "serve",
]
