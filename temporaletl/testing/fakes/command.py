"""The command line of a fake: options, faults by name, serving until a signal."""

import argparse
import errno
import signal
import sys
import threading
from datetime import timedelta

from temporaletl.testing.fakes.faults import ANSWERS, TRANSPORT, Faults, FaultSpecError
from temporaletl.testing.fakes.server import FakeServer, Service


def serving_options(own_faults: dict[str, str]) -> argparse.ArgumentParser:
    """Return the options of every fake's command, for use as a parent parser."""
    kinds = {**TRANSPORT, **ANSWERS, **own_faults}
    parser = argparse.ArgumentParser(
        add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="faults:\n" + "\n".join(f"  {kind:22}{text}" for kind, text in kinds.items()),
    )
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND:RATE[:LIMIT]",
        help="repeatable; KIND:each[:RATE] fails each request once, and repeats at the rate",
    )
    parser.add_argument("--seed", type=int, default=0, help="of generated data and faults")
    parser.add_argument("--latency-ms", type=float, default=0, help="added to each answer")
    parser.add_argument("--retry-after", type=int, default=1, help="seconds that a 429 demands")
    parser.add_argument(
        "--hang-seconds", type=float, default=120, help="bound of a hang, and of a slow answer"
    )
    parser.add_argument("--max-per-second", type=float, help="more requests get a real 429")
    parser.add_argument("--log", action="store_true", help="one line a request, on stderr")
    return parser


def open_server(service: Service, options: argparse.Namespace) -> FakeServer:
    """Create the server that `serving_options` describe; exit with status 2 if they are wrong."""
    try:
        faults = Faults(
            options.fault,
            known={**TRANSPORT, **service.own_faults},
            seed=options.seed,
            retry_after=timedelta(seconds=options.retry_after),
            hang=timedelta(seconds=options.hang_seconds),
        )
        return FakeServer(
            service,
            port=options.port,
            faults=faults,
            latency=timedelta(milliseconds=options.latency_ms),
            requests_per_second=options.max_per_second,
            log=options.log,
        )
    except FaultSpecError as error:
        message = str(error)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        reason = "is in use already; choose another with --port" if in_use else f"fails: {error}"
        message = f"port {options.port} {reason}"
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    raise SystemExit(2)


def run_alone(server: FakeServer) -> None:
    """Serve until SIGTERM or SIGINT; print the address first."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with server:
        print(f"listening on {server.url}", flush=True)  # noqa: T201
        stop.wait()
