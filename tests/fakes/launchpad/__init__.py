"""A Launchpad that behaves as the real one does, with its paging, privacy and faults."""

from tests.fakes.launchpad.archive import Archive
from tests.fakes.launchpad.generate import generate
from tests.fakes.launchpad.load import load
from tests.fakes.launchpad.service import LaunchpadService, serve
from tests.fakes.launchpad.truth import truth

__all__ = ["Archive", "LaunchpadService", "generate", "load", "serve", "truth"]
