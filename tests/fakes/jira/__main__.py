"""Serve a fake Jira: python -m tests.fakes.jira --port N (--data FILE | --generate ISSUES)."""

import argparse

from tests.fakes.command import FakeCommand
from tests.fakes.jira.expected_counts import expected_counts
from tests.fakes.jira.generate import generate
from tests.fakes.jira.load import RecordedDataError, load
from tests.fakes.jira.service import OWN_FAULTS, JiraService
from tests.fakes.jira.site import Limits, Personality, Site
from tests.fakes.server import Service


class JiraCommand(FakeCommand[Site]):
    name = "jira"
    about = "A fake Jira on loopback."
    own_faults = OWN_FAULTS
    reads = ("FILE.jsonl", "repeatable")
    generates = ("ISSUES", None)
    refusals = (OSError, LookupError, RecordedDataError)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--personality", choices=[*Personality], default=Personality.CLOUD)
        parser.add_argument("--time-zone", help="the token owner's, in which JQL dates are read")
        parser.add_argument(
            "--auth", action="append", metavar="EMAIL:TOKEN", help="let only these in; repeatable"
        )
        parser.add_argument("--require-auth", action="store_true", help="refuse anonymous requests")
        parser.add_argument("--bulk-created", choices=["epoch", "iso", "mixed"], default="epoch")
        parser.add_argument("--cache-mb", type=int, default=256, help="of rendered issues")
        parser.add_argument(
            "--preload", choices=["2", "3"], help="render for this API version before listening"
        )

    def data(self, options: argparse.Namespace) -> Site:
        limits = Limits(bulk_created=options.bulk_created)
        if options.data:
            return load(
                options.data,
                personality=options.personality,
                limits=limits,
                time_zone=options.time_zone,
            )
        return generate(
            options.generate,
            seed=options.seed,
            personality=options.personality,
            limits=limits,
            **({"time_zone": options.time_zone} if options.time_zone else {}),
        )

    def count(self, data: Site) -> object:
        return expected_counts(data).as_dict()

    def service(self, data: Site, options: argparse.Namespace) -> JiraService:
        return JiraService(
            data,
            accepted=options.auth,
            require_auth=options.require_auth,
            cache_bytes=options.cache_mb * 1024 * 1024,
        )

    def prepare(self, data: Site, service: Service, options: argparse.Namespace) -> None:
        super().prepare(data, service, options)
        if isinstance(service, JiraService) and options.preload in service.renderers:
            service.preload(options.preload)


COMMAND = JiraCommand()

if __name__ == "__main__":
    COMMAND.main()
