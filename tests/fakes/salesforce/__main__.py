"""Serve a fake org: python -m tests.fakes.salesforce --port N (--data FILE | --generate CASES)."""

import argparse
import gc
import sys
from pathlib import Path

import msgspec

from tests.fakes.salesforce.generate import generate
from tests.fakes.salesforce.load import RecordedDataError, load
from tests.fakes.salesforce.login import Doors
from tests.fakes.salesforce.service import OWN_FAULTS, SalesforceService
from tests.fakes.salesforce.truth import truth
from tests.fakes.server import open_server, run_alone, serving_options


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; ends the process for --help and for mistakes."""
    common = serving_options(OWN_FAULTS)
    parser = argparse.ArgumentParser(
        prog="python -m tests.fakes.salesforce",
        description="A fake Salesforce org on loopback.",
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=common.epilog,
    )
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument(
        "--data", action="append", metavar="FILE.csv", help="or their folder; repeatable"
    )
    data.add_argument("--generate", type=int, metavar="CASES", help="and what goes with them")
    parser.add_argument(
        "--auth", action="append", metavar="USER:PASSWORD", help="the token appended; repeatable"
    )
    parser.add_argument("--app", action="append", metavar="KEY:SECRET", help="repeatable")
    parser.add_argument(
        "--jwt", action="append", metavar="KEY:FILE", help="a public key in PEM; repeatable"
    )
    parser.add_argument("--daily-limit", type=int, default=5_000_000, help="of API requests")
    parser.add_argument(
        "--bulk-looks", type=int, default=2, help="at a bulk job before it is complete"
    )
    parser.add_argument(
        "--count", action="store_true", help="print what the org holds, as JSON, and end"
    )
    return parser.parse_args(arguments)


def _pairs(given: list[str] | None) -> dict[str, str] | None:
    if given is None:
        return None
    return {key: value for key, _, value in (each.partition(":") for each in given)}


def main() -> None:
    options = read_options(sys.argv[1:])
    try:
        org = load(options.data) if options.data else generate(options.generate, seed=options.seed)
        keys = _pairs(options.jwt)
        if keys is not None:
            keys = {key: Path(path).read_text(encoding="utf-8") for key, path in keys.items()}
    except (OSError, LookupError, RecordedDataError) as error:
        sys.exit(f"error: {error}")
    if options.count:
        print(msgspec.json.encode(truth(org)).decode())  # noqa: T201
        return
    doors = Doors(users=_pairs(options.auth), apps=_pairs(options.app), keys=keys)
    service = SalesforceService(
        org, doors=doors, daily_limit=options.daily_limit, bulk_looks=options.bulk_looks
    )
    server = open_server(service, options)
    # The rows live as long as the process: no collection need look at them again.
    gc.freeze()
    run_alone(server)


if __name__ == "__main__":
    main()
