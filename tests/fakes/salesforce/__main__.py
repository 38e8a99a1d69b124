"""Serve a fake org: python -m tests.fakes.salesforce --port N (--data FILE | --generate CASES)."""

import argparse
from pathlib import Path

from tests.fakes.command import FakeCommand
from tests.fakes.salesforce.expected_counts import expected_counts
from tests.fakes.salesforce.generate import generate
from tests.fakes.salesforce.load import RecordedDataError, load
from tests.fakes.salesforce.login import Doors
from tests.fakes.salesforce.org import Org
from tests.fakes.salesforce.service import OWN_FAULTS, SalesforceService


def _pairs(given: list[str] | None) -> dict[str, str] | None:
    if given is None:
        return None
    return {key: value for key, _, value in (each.partition(":") for each in given)}


class SalesforceCommand(FakeCommand[Org]):
    name = "salesforce"
    about = "A fake Salesforce org on loopback."
    own_faults = OWN_FAULTS
    reads = ("FILE.csv", "or their folder; repeatable")
    generates = ("CASES", "and what goes with them")
    refusals = (OSError, LookupError, RecordedDataError)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--auth",
            action="append",
            metavar="USER:PASSWORD",
            help="the token appended; repeatable",
        )
        parser.add_argument("--app", action="append", metavar="KEY:SECRET", help="repeatable")
        parser.add_argument(
            "--jwt", action="append", metavar="KEY:FILE", help="a public key in PEM; repeatable"
        )
        parser.add_argument("--daily-limit", type=int, default=5_000_000, help="of API requests")
        parser.add_argument(
            "--bulk-looks", type=int, default=2, help="at a bulk job before it is complete"
        )

    def data(self, options: argparse.Namespace) -> Org:
        if options.data:
            return load(options.data)
        return generate(options.generate, seed=options.seed)

    def count(self, data: Org) -> object:
        return expected_counts(data)

    def service(self, data: Org, options: argparse.Namespace) -> SalesforceService:
        keys = _pairs(options.jwt)
        if keys is not None:
            keys = {key: Path(path).read_text(encoding="utf-8") for key, path in keys.items()}
        return SalesforceService(
            data,
            doors=Doors(users=_pairs(options.auth), apps=_pairs(options.app), keys=keys),
            daily_limit=options.daily_limit,
            bulk_looks=options.bulk_looks,
        )


COMMAND = SalesforceCommand()

if __name__ == "__main__":
    COMMAND.main()
