"""Serve a fake ServiceTitan: python -m tests.fakes.servicetitan (--data FILE | --generate N)."""

import argparse
import gc
import sys

import msgspec

from tests.fakes.server import open_server, run_alone, serving_options
from tests.fakes.servicetitan.generate import generate
from tests.fakes.servicetitan.load import DataError, load
from tests.fakes.servicetitan.service import OWN_FAULTS, ServiceTitanService
from tests.fakes.servicetitan.tenant import Tenant
from tests.fakes.servicetitan.truth import truth


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; ends the process for --help and for mistakes."""
    common = serving_options(OWN_FAULTS)
    parser = argparse.ArgumentParser(
        prog="python -m tests.fakes.servicetitan",
        description="A fake ServiceTitan on loopback, token server included.",
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=common.epilog,
    )
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", action="append", metavar="FILE.jsonl", help="repeatable")
    data.add_argument("--generate", type=int, metavar="N", help="records of each of four kinds")
    parser.add_argument("--tenant", type=int, default=1234567, help="the tenant's number")
    parser.add_argument("--client", default="cid.fake:cs1.fake", metavar="ID:SECRET")
    parser.add_argument("--app-key", default="ak1.fake")
    parser.add_argument("--token-seconds", type=float, default=900, help="the life of a token")
    parser.add_argument("--export-rows", type=int, default=1_000, help="records in one answer")
    parser.add_argument(
        "--withheld-seconds", type=float, default=300, help="how long feeds keep changes back"
    )
    parser.add_argument("--order", choices=["kept", "ignored", "refused"], default="kept")
    parser.add_argument("--preload", action="store_true", help="make all records before listening")
    parser.add_argument(
        "--count", action="store_true", help="print what the tenant holds, as JSON, and end"
    )
    return parser.parse_args(arguments)


def _tenant(options: argparse.Namespace) -> Tenant:
    if options.data:
        tenant = load(options.data, number=options.tenant)
    else:
        tenant = generate(options.generate, seed=options.seed, number=options.tenant)
    tenant.withheld_seconds = options.withheld_seconds
    return tenant


def main() -> None:
    options = read_options(sys.argv[1:])
    try:
        tenant = _tenant(options)
    except (OSError, DataError) as error:
        sys.exit(f"error: {error}")
    if options.count:
        print(msgspec.json.encode(truth(tenant).as_dict()).decode())  # noqa: T201
        return
    service = ServiceTitanService(
        tenant,
        client=options.client,
        app_key=options.app_key,
        token_seconds=options.token_seconds,
        export_rows=options.export_rows,
        order=options.order,
    )
    server = open_server(service, options)
    if options.preload:
        for collection in tenant.collections.values():
            for row in collection.rows.values():
                collection.render(row)
    # The records live as long as the process: no collection need look at them again.
    gc.freeze()
    run_alone(server)


if __name__ == "__main__":
    main()
