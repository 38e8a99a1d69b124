"""Serve a fake shop: python -m tests.fakes.shop --port N --generate ORDERS [--token TOKEN]."""

import argparse

from tests.fakes.command import FakeCommand
from tests.fakes.shop import OWN_FAULTS, Orders, ShopService, generate


class ShopCommand(FakeCommand[Orders]):
    name = "shop"
    about = "A fake web shop on loopback."
    own_faults = OWN_FAULTS
    generates = ("ORDERS", None)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--token", help="let only this one in")

    def data(self, options: argparse.Namespace) -> Orders:
        return generate(options.generate, seed=options.seed)

    def count(self, data: Orders) -> object:
        return {"orders": len(data.by_id), "events": len(data.events)}

    def service(self, data: Orders, options: argparse.Namespace) -> ShopService:
        return ShopService(data, token=options.token)


COMMAND = ShopCommand()

if __name__ == "__main__":
    COMMAND.main()
