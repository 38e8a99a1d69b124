"""The command of a fake: python -m tests.fakes.NAME (--data FILE | --generate N)."""

import argparse
import gc
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from temporaletl.testing.fakes.command import open_server, run_alone, serving_options
from temporaletl.testing.fakes.server import Service


class FakeCommand[D](ABC):
    """The command of one fake; `D` is the type of its data."""

    name: ClassVar[str]
    #: What it is, in a sentence of the help.
    about: ClassVar[str]
    own_faults: ClassVar[Mapping[str, str]]
    #: How the number of `--generate` is called, and what is said of it.
    generates: ClassVar[tuple[str, str | None]]
    #: How a file of `--data` is called, and what is said of it; None where none can be read.
    reads: ClassVar[tuple[str, str] | None] = None
    #: Errors that mean that what was named cannot be read.
    refusals: ClassVar[tuple[type[Exception], ...]] = (OSError,)

    @abstractmethod
    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the fake's own options."""

    @abstractmethod
    def data(self, options: argparse.Namespace) -> D:
        """Load or generate what is served."""

    @abstractmethod
    def count(self, data: D) -> object:
        """The counts that `--count` prints as JSON."""

    @abstractmethod
    def service(self, data: D, options: argparse.Namespace) -> Service:
        """The service that answers."""

    def prepare(self, data: D, service: Service, options: argparse.Namespace) -> None:  # noqa: ARG002
        """Prepare the data before the first request."""
        # It lives as long as the process: no collection need look at it again.
        gc.freeze()

    def read_options(self, arguments: list[str]) -> argparse.Namespace:
        """Read the command line; ends the process for --help and for mistakes."""
        common = serving_options(dict(self.own_faults))
        parser = argparse.ArgumentParser(
            prog=f"python -m tests.fakes.{self.name}",
            description=self.about,
            parents=[common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=common.epilog,
        )
        number, number_help = self.generates
        source = parser.add_mutually_exclusive_group(required=True)
        if self.reads is not None:
            file, file_help = self.reads
            source.add_argument("--data", action="append", metavar=file, help=file_help)
        source.add_argument("--generate", type=int, metavar=number, help=number_help)
        self.add_options(parser)
        parser.add_argument(
            "--count", action="store_true", help="print what would be served, as JSON, and end"
        )
        return parser.parse_args(arguments)

    def main(self) -> None:
        """Serve until SIGTERM or SIGINT, as the command line says."""
        options = self.read_options(sys.argv[1:])
        try:
            data = self.data(options)
            service = None if options.count else self.service(data, options)
        except self.refusals as error:
            sys.exit(f"error: {error}")
        if service is None:
            print(msgspec.json.encode(self.count(data)).decode())  # noqa: T201
            return
        server = open_server(service, options)
        self.prepare(data, service, options)
        run_alone(server)
