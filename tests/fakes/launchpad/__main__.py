"""Serve a fake Launchpad: python -m tests.fakes.launchpad --port N (--data FILE | --generate N)."""

import argparse

from tests.fakes.command import FakeCommand
from tests.fakes.launchpad.archive import Archive
from tests.fakes.launchpad.expected_counts import expected_counts
from tests.fakes.launchpad.generate import generate
from tests.fakes.launchpad.load import RecordedDataError, load
from tests.fakes.launchpad.service import OWN_FAULTS, LaunchpadService


class LaunchpadCommand(FakeCommand[Archive]):
    name = "launchpad"
    about = "A fake Launchpad on loopback."
    own_faults = OWN_FAULTS
    reads = ("FILE", "recorded; repeatable")
    generates = ("BUGS", None)
    refusals = (OSError, RecordedDataError)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--proposals", type=int, help="default a third of the bugs")
        parser.add_argument("--questions", type=int, help="default a fifth of the bugs")
        parser.add_argument(
            "--auth",
            action="append",
            metavar="CONSUMER:TOKEN:SECRET",
            help="accept only these access tokens; repeatable",
        )
        parser.add_argument("--require-auth", action="store_true", help="refuse anonymous requests")

    def data(self, options: argparse.Namespace) -> Archive:
        if options.data:
            return load(options.data)
        return generate(
            options.generate,
            proposals=options.proposals,
            questions=options.questions,
            seed=options.seed,
        )

    def count(self, data: Archive) -> object:
        return {
            "members": sorted(data.people),
            "targets": sorted(data.targets),
            "events": expected_counts(data),
        }

    def service(self, data: Archive, options: argparse.Namespace) -> LaunchpadService:
        return LaunchpadService(data, accepted=options.auth, require_auth=options.require_auth)


COMMAND = LaunchpadCommand()

if __name__ == "__main__":
    COMMAND.main()
