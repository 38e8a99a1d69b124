"""Serve a fake Jira: python -m tests.fakes.jira --port N (--data FILE | --generate ISSUES)."""

import argparse
import gc
import sys

import msgspec

from tests.fakes.jira.generate import generate
from tests.fakes.jira.load import RecordedDataError, load
from tests.fakes.jira.service import OWN_FAULTS, JiraService
from tests.fakes.jira.site import Limits, Personality, Site
from tests.fakes.jira.truth import truth
from tests.fakes.server import open_server, run_alone, serving_options


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; ends the process for --help and for mistakes."""
    common = serving_options(OWN_FAULTS)
    parser = argparse.ArgumentParser(
        prog="python -m tests.fakes.jira",
        description="A fake Jira on loopback.",
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=common.epilog,
    )
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", action="append", metavar="FILE.jsonl", help="repeatable")
    data.add_argument("--generate", type=int, metavar="ISSUES")
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
    parser.add_argument(
        "--count", action="store_true", help="print what the site holds, as JSON, and end"
    )
    return parser.parse_args(arguments)


def _site(options: argparse.Namespace) -> Site:
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


def main() -> None:
    options = read_options(sys.argv[1:])
    try:
        site = _site(options)
    except (OSError, LookupError, RecordedDataError) as error:
        sys.exit(f"error: {error}")
    if options.count:
        counts = truth(site)
        print(msgspec.json.encode(counts.as_dict()).decode())  # noqa: T201
        return
    service = JiraService(
        site,
        accepted=options.auth,
        require_auth=options.require_auth,
        cache_bytes=options.cache_mb * 1024 * 1024,
    )
    server = open_server(service, options)
    # The issues' summaries live as long as the process: no collection need look at them again.
    gc.freeze()
    if options.preload in service.renderers:
        service.preload(options.preload)
    run_alone(server)


if __name__ == "__main__":
    main()
