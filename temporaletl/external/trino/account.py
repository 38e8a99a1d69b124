"""The account view of Trino: the user, and the tables that the streams read."""

import msgspec

from temporaletl.accounts import AccountView, account_view, note_accepted
from temporaletl.errors import ConfigurationError, CredentialsError, RecordError
from temporaletl.external.answers import decode_record
from temporaletl.external.threads import Begun
from temporaletl.external.trino.access import TrinoSettings
from temporaletl.external.trino.server import TrinoServer, open_trino
from temporaletl.external.trino.streams import Stream, load_streams, spelled_out
from temporaletl.messages import Window
from temporaletl.telemetry.logs import get_logger

log = get_logger("trino")


class _SchemaTable(msgspec.Struct):
    schema: str
    table: str


class _Table(msgspec.Struct, rename="camel"):
    catalog: str
    schema_table: _SchemaTable


class _Input(msgspec.Struct):
    table: _Table


class _Plan(msgspec.Struct, rename="camel"):
    """A query's input tables, as EXPLAIN (TYPE IO, FORMAT JSON) reports them."""

    input_table_column_infos: list[_Input]


@account_view("trino")
def trino_account() -> AccountView:
    """The user of the session, and the tables that the streams' queries may read.

    Of a stream that cannot be read there are none: its own job says why.

    Raises:
        ConfigurationError: a setting or the file of streams is wrong.
        CredentialsError: Trino refuses us.
        SourceUnavailableError: no answer.
    """
    server = open_trino(TrinoSettings.load())
    streams = load_streams()
    begun: dict[str, Begun[set[str]]] = {}

    def let_in() -> None:
        note_accepted("trino")
        for name, stream in streams.streams.items():
            begun[name] = server.begin(_tables, server, stream, streams.described(name))

    try:
        ((user,),) = server.ask("SELECT current_user", name="who asks", answered=let_in)
    except BaseException:
        for found in begun.values():
            found.abandon()
        raise
    tables: set[str] = set()
    all_readable = True
    for name, found in begun.items():
        try:
            tables |= found.result()
        except (ConfigurationError, CredentialsError) as error:
            log.warning("trino_stream_unreadable", stream=name, reason=str(error))
            all_readable = False
    seen = frozenset(tables)
    # Where each stream can be read, other tables are those of streams that the file lost.
    return AccountView(str(user), containers=seen, asked_for=seen if all_readable else None)


def _tables(server: TrinoServer, stream: Stream, name: str) -> set[str]:
    sql, parameters = stream.bound(Window(), {})
    explained = f"EXPLAIN (TYPE IO, FORMAT JSON)\n{spelled_out(sql, parameters)}"
    ((plan_json,),) = server.ask(explained, name=name)
    try:
        plan = decode_record(_Plan, str(plan_json).encode())
    except RecordError:
        return set()  # a version that describes plans otherwise
    found = (info.table for info in plan.input_table_column_infos)
    return {f"{t.catalog}.{t.schema_table.schema}.{t.schema_table.table}" for t in found}
