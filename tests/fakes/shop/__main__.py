"""Serve a fake shop: python -m tests.fakes.shop --port N --generate ORDERS [--token TOKEN]."""

import argparse
import sys

import msgspec

from tests.fakes.server import open_server, run_alone, serving_options
from tests.fakes.shop import OWN_FAULTS, ShopService, generate


def main() -> None:
    common = serving_options(OWN_FAULTS)
    parser = argparse.ArgumentParser(
        prog="python -m tests.fakes.shop",
        description="A fake web shop on loopback.",
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=common.epilog,
    )
    parser.add_argument("--generate", type=int, required=True, metavar="ORDERS")
    parser.add_argument("--token", help="let only this one in")
    parser.add_argument(
        "--count", action="store_true", help="print what the shop holds, as JSON, and end"
    )
    options = parser.parse_args(sys.argv[1:])
    orders = generate(options.generate, seed=options.seed)
    if options.count:
        counts = {"orders": len(orders.by_id), "events": len(orders.events)}
        print(msgspec.json.encode(counts).decode())  # noqa: T201
        return
    run_alone(open_server(ShopService(orders, token=options.token), options))


if __name__ == "__main__":
    main()
