"""The dashboard that all modules here share."""

from tests.integration.web.screenshots import screenshots
from tests.integration.web.stack import dashboard

__all__ = ["dashboard", "screenshots"]
