"""Serve a fake Launchpad: python -m tests.fakes.launchpad --port N (--data FILE | --generate N)."""

import argparse
import gc
import sys

import msgspec

from tests.fakes.launchpad.archive import Archive
from tests.fakes.launchpad.generate import generate
from tests.fakes.launchpad.load import RecordedDataError, load
from tests.fakes.launchpad.service import OWN_FAULTS, LaunchpadService
from tests.fakes.launchpad.truth import truth
from tests.fakes.server import open_server, run_alone, serving_options


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; ends the process for --help and for mistakes."""
    common = serving_options(OWN_FAULTS)
    parser = argparse.ArgumentParser(
        prog="python -m tests.fakes.launchpad",
        description="A fake Launchpad on loopback.",
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=common.epilog,
    )
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", action="append", metavar="FILE", help="recorded; repeatable")
    data.add_argument("--generate", type=int, metavar="BUGS")
    parser.add_argument("--proposals", type=int, help="default a third of the bugs")
    parser.add_argument("--questions", type=int, help="default a fifth of the bugs")
    parser.add_argument(
        "--auth",
        action="append",
        metavar="CONSUMER:TOKEN:SECRET",
        help="accept only these access tokens; repeatable",
    )
    parser.add_argument("--require-auth", action="store_true", help="refuse anonymous requests")
    parser.add_argument(
        "--count", action="store_true", help="print what the archive holds, as JSON, and end"
    )
    return parser.parse_args(arguments)


def _archive(options: argparse.Namespace) -> Archive:
    if options.data:
        return load(options.data)
    return generate(
        options.generate,
        proposals=options.proposals,
        questions=options.questions,
        seed=options.seed,
    )


def main() -> None:
    options = read_options(sys.argv[1:])
    try:
        archive = _archive(options)
    except (OSError, RecordedDataError) as error:
        sys.exit(f"error: {error}")
    if options.count:
        counts = {
            "members": sorted(archive.people),
            "targets": sorted(archive.targets),
            "events": truth(archive),
        }
        print(msgspec.json.encode(counts).decode())  # noqa: T201
        return
    service = LaunchpadService(archive, accepted=options.auth, require_auth=options.require_auth)
    server = open_server(service, options)
    # The archive lives as long as the process: no collection need look at it again.
    gc.freeze()
    run_alone(server)


if __name__ == "__main__":
    main()
