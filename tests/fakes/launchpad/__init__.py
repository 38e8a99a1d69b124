"""A Launchpad that behaves as the real one does, with its paging, privacy and faults."""

from tests.fakes.launchpad.archive import Archive
from tests.fakes.launchpad.expected_counts import expected_counts
from tests.fakes.launchpad.generate import generate
from tests.fakes.launchpad.load import load
from tests.fakes.launchpad.service import LaunchpadService, serve

__all__ = ["Archive", "LaunchpadService", "expected_counts", "generate", "load", "serve"]
