"""Serve a fake ServiceTitan: python -m tests.fakes.servicetitan (--data FILE | --generate N)."""

import argparse

from tests.fakes.command import FakeCommand
from tests.fakes.server import Service
from tests.fakes.servicetitan.expected_counts import expected_counts
from tests.fakes.servicetitan.generate import generate
from tests.fakes.servicetitan.load import DataError, load
from tests.fakes.servicetitan.service import OWN_FAULTS, ServiceTitanService
from tests.fakes.servicetitan.tenant import Tenant


class ServiceTitanCommand(FakeCommand[Tenant]):
    name = "servicetitan"
    about = "A fake ServiceTitan on loopback, token server included."
    own_faults = OWN_FAULTS
    reads = ("FILE.jsonl", "repeatable")
    generates = ("N", "records of each of four kinds")
    refusals = (OSError, DataError)

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--tenant", type=int, default=1234567, help="the tenant's number")
        parser.add_argument("--client", default="cid.fake:cs1.fake", metavar="ID:SECRET")
        parser.add_argument("--app-key", default="ak1.fake")
        parser.add_argument("--token-seconds", type=float, default=900, help="the life of a token")
        parser.add_argument("--export-rows", type=int, default=1_000, help="records in one answer")
        parser.add_argument(
            "--withheld-seconds", type=float, default=300, help="how long feeds keep changes back"
        )
        parser.add_argument("--order", choices=["kept", "ignored", "refused"], default="kept")
        parser.add_argument(
            "--preload", action="store_true", help="make all records before listening"
        )

    def data(self, options: argparse.Namespace) -> Tenant:
        if options.data:
            tenant = load(options.data, number=options.tenant)
        else:
            tenant = generate(options.generate, seed=options.seed, number=options.tenant)
        tenant.withheld_seconds = options.withheld_seconds
        return tenant

    def count(self, data: Tenant) -> object:
        return expected_counts(data).as_dict()

    def service(self, data: Tenant, options: argparse.Namespace) -> ServiceTitanService:
        return ServiceTitanService(
            data,
            client=options.client,
            app_key=options.app_key,
            token_seconds=options.token_seconds,
            export_rows=options.export_rows,
            order=options.order,
        )

    def prepare(self, data: Tenant, service: Service, options: argparse.Namespace) -> None:
        if options.preload:
            for collection in data.collections.values():
                for row in collection.rows.values():
                    collection.render(row)
        super().prepare(data, service, options)


COMMAND = ServiceTitanCommand()

if __name__ == "__main__":
    COMMAND.main()
