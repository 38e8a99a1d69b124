"""A Jira that behaves as Cloud or Server does, with the truncation, paging and faults of each."""

from tests.fakes.jira.generate import generate
from tests.fakes.jira.load import load
from tests.fakes.jira.service import JiraService, serve
from tests.fakes.jira.site import Limits, Site
from tests.fakes.jira.truth import Truth, truth

__all__ = ["JiraService", "Limits", "Site", "Truth", "generate", "load", "serve", "truth"]
