"""The source fixture of `trino`: a real server behind a relay that injects faults."""

import itertools
import tempfile
import uuid
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import ClassVar

from temporaletl.external.trino.server import close_servers
from temporaletl.testing import FakeSourceFixture
from tests.fakes.faults import ANSWERS, TRANSPORT, Faults
from tests.fakes.server import FakeServer
from tests.integration.trino_relay import TrinoRelay, over_tls
from tests.integration.trino_server import ACCOUNT, TrinoServer
from tests.keys import private_pem

_STREAMS = """
[orders]
sql = "SELECT * FROM {table} WHERE changed_at >= :start AND changed_at < :end"
cursor = "changed_at"
event_time = "placed_at"
event_id = "order_id"
event_type = "order_placed"
item = "number"
timezone = {{ column = "zone" }}
metrics = ["amount"]
find_deleted = true
"""
_COUNT = 50
#: The rows that every fixture serves at first.
_SOUND = "memory.test.sound"
_COLUMNS = "order_id, number, zone, placed_at, changed_at, amount"


class TrinoFixture(FakeSourceFixture):
    source = "trino"
    page_size_setting = "TRINO_PAGE_ROWS"
    page_sizes = (17, 25)  # going on costs a query each time
    faults: ClassVar[Collection[str]] = (*TRANSPORT, *ANSWERS)
    serves_items_apart = False  # a query's result is one whole
    _unseen: str | None = None

    #: The server of the session, with HTTPS for its own tokens.
    trino: ClassVar[TrinoServer]
    #: Further lines of the stream.
    more: ClassVar[str] = ""

    @classmethod
    def use(cls, server: TrinoServer) -> None:
        """Read from this server; its key is the secret."""
        cls.trino = server
        assert server.secured is not None
        cls.secrets = (server.secured.private_key.splitlines()[3],)
        cls.wrong_credentials = {"GCP_PRIVATE_KEY": private_pem().replace("\n", "\\n")}

    def serve(self) -> Iterator[Mapping[str, str]]:
        self._numbers = itertools.count(_COUNT)
        self._table = f"memory.test.t{uuid.uuid4().hex[:12]}"
        _fill(self.trino)
        self.trino.execute(f"CREATE VIEW {self._table} AS SELECT * FROM {_SOUND}")
        #: Whether the rows stand in a table of this fixture, and not only in a view of it.
        self._own = False
        with tempfile.TemporaryDirectory(prefix="etl-fixture-") as folder:
            self._folder = Path(folder)
            (self._folder / "streams.toml").write_text(
                _STREAMS.format(table=self._table) + self.more
            )
            yield from super().serve()
        self.restore()
        self.trino.execute(f"DROP {self._kind} {self._table}")

    def make_server(self) -> FakeServer:
        secured = self.trino.secured
        assert secured is not None
        relay = TrinoRelay(f"https://localhost:{secured.port}", authority=secured.certificate)
        faults = Faults(known=TRANSPORT, retry_after=timedelta(0))
        return over_tls(FakeServer(relay, faults=faults), secured.certificate.parent)

    def environment(self, url: str) -> Mapping[str, str]:
        secured = self.trino.secured
        assert secured is not None
        return {
            "TRINO_STREAMS_FILE": str(self._folder / "streams.toml"),
            "TRINO_HOST": "localhost",
            "TRINO_PORT": url.rpartition(":")[2],
            "TRINO_HTTP_SCHEME": "https",
            "TRINO_CA_FILE": str(secured.certificate),
            "GCP_CLIENT_EMAIL": ACCOUNT,
            "GCP_PRIVATE_KEY": secured.private_key.replace("\n", "\\n"),
            # The server itself holds a request for a second where it has nothing to tell yet.
            "TRINO_READ_TIMEOUT_SECONDS": "3",
        }

    def close(self) -> None:
        close_servers()

    def expected(self) -> Mapping[str, int]:
        return {"orders": _COUNT}

    def change(self, at: datetime) -> None:
        self._rewrite(f"order_id, 'N-new', zone, placed_at, {_moment(at)} AS changed_at, amount")
        self.trino.execute(f"INSERT INTO {self._table} VALUES {_row(next(self._numbers), at)}")

    def corrupt(self) -> None:
        self._rewrite("order_id, number, 'Nowhere/Land', placed_at, changed_at, amount")

    def poison(self, value: bytes) -> None:
        row = b'"7.50"]'
        self.corruptible.rewrites.append((row, b"%b]" % value))

    def break_item(self) -> None:
        self.corruptible.unservable.add(b'[7,"N-7",')

    def see_less(self) -> None:
        self._unseen = f"{self._table}_unseen"
        self._rename(self._table, self._unseen)

    def restore(self) -> None:
        super().restore()
        if self._unseen is not None:
            self._rename(self._unseen, self._table)
            self._unseen = None

    def _rename(self, name: str, to: str) -> None:
        self.trino.execute(f"ALTER {self._kind} {name} RENAME TO {to}")

    @property
    def _kind(self) -> str:
        return "TABLE" if self._own else "VIEW"

    def _rewrite(self, columns: str) -> None:
        """Replace columns of the first row; tables of the memory catalog know no UPDATE."""
        spare = f"{self._table}_"
        self.trino.execute(
            f"CREATE TABLE {spare} AS SELECT * FROM {self._table} WHERE order_id <> 0"
            f" UNION ALL SELECT {columns} FROM {self._table} WHERE order_id = 0"
        )
        self.trino.execute(f"DROP {self._kind} {self._table}")
        self._own = True
        self._rename(spare, self._table)


@cache
def _fill(server: TrinoServer) -> None:
    """Make the sound table of a server, which takes it longer than to read from it."""
    rows = ", ".join(
        _row(number, datetime(2025, 3, 1, tzinfo=UTC) + timedelta(hours=number // 4))
        for number in range(_COUNT)
    )
    server.execute(
        f"CREATE TABLE IF NOT EXISTS {_SOUND} AS SELECT * FROM (VALUES {rows}) AS t ({_COLUMNS})"
    )


def _moment(at: datetime) -> str:
    return f"TIMESTAMP '{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC'"


def _row(number: int, at: datetime) -> str:
    zone = ("Europe/Helsinki", "UTC", "Asia/Kolkata")[number % 3]
    return (
        f"({number}, CAST('N-{number}' AS varchar), CAST('{zone}' AS varchar), {_moment(at)}, "
        f"{_moment(at)}, CAST({number}.50 AS decimal(9, 2)))"
    )
