"""What a pipeline meets where it runs: connections, secrets, sources, tables, hosts."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from temporaletl.worker.pipelines.faults import DefinitionFault
from temporaletl.worker.pipelines.nodes.fields import NodeData
from temporaletl.worker.pipelines.nodes.loading import DatabaseData, LoadData, SourceData
from temporaletl.worker.pipelines.nodes.requests import ApiCallData, WebhookData

#: An address whose host is written out: what fills a hole cannot choose whom to ask.
_ADDRESS = re.compile(r"https?://(?P<host>[^/?#{}@\\\s]+)(?:[/?#]|$)", re.IGNORECASE)
#: What the variables of secrets begin with, and what no name of one holds.
SECRETS = "PIPELINE_SECRET_"
_NOT_OF_A_VARIABLE = re.compile(r"[^A-Z0-9]")


def variable_of(name: str) -> str:
    """The variable that holds a secret: `shop.key` is PIPELINE_SECRET_SHOP_KEY."""
    return SECRETS + _NOT_OF_A_VARIABLE.sub("_", name.upper())


@dataclass(frozen=True)
class Surroundings:
    """Names that exist where a pipeline runs; None: not known here, and so not checked.

    `keys` are the keys of tables that other pipelines load, `reserved` tables that none may.
    """

    sources: Collection[str] | None = None
    databases: Collection[str] | None = None
    writable: Collection[str] | None = None
    keys: Mapping[str, tuple[str, ...]] | None = None
    reserved: Collection[str] = ()
    #: Variables of the environment that hold secrets.
    secrets: Collection[str] | None = None
    #: Whether those are all: others than this process run what is checked, and may have more.
    all_secrets: bool = True

    def faults_of_secret(
        self, name: str, path: str, node: str | None = None, at: tuple[int, int] | None = None
    ) -> Iterator[DefinitionFault]:
        """The fault of a secret that there is not; a warning where others may have it."""
        variable = variable_of(name)
        if self.secrets is None or variable in self.secrets:
            return
        line, column = at or (None, None)
        needs = f"set {variable}, or {variable}_FILE"
        message = f"there is no secret {name!r}: {needs}, in the environment of the workers"
        if not self.all_secrets:
            message = f"the secret {name!r} is not known here: the workers need {variable}"
        yield DefinitionFault(path, message, node, line, column, warning=not self.all_secrets)


def faults_of_surroundings(
    steps: Sequence[tuple[str, str, NodeData]], surroundings: Surroundings
) -> Iterator[DefinitionFault]:
    """Faults of nodes (path of data, id, data) that name what does not exist, or is not theirs."""
    keys = dict(surroundings.keys or {})
    for path, node, data in steps:
        match data:
            case LoadData():
                yield from _faults_of_table(path, node, data, keys, surroundings)
            case ApiCallData() | WebhookData() if _ADDRESS.match(data.url) is None:
                yield DefinitionFault(
                    f"{path}.url",
                    "needs http:// or https:// and a host that is written out, without user",
                    node,
                )
            case SourceData() if _lacks(surroundings.sources, data.source):
                listed = ", ".join(sorted(surroundings.sources or ()))
                yield DefinitionFault(
                    f"{path}.source", f"{data.source} is no source; there are {listed}", node
                )
            case DatabaseData() if _lacks(surroundings.databases, data.connection):
                listed = ", ".join(sorted(surroundings.databases or ())) or "none"
                yield DefinitionFault(
                    f"{path}.connection",
                    f"no database is called {data.connection}; there are {listed}",
                    node,
                )
            case DatabaseData(operation=operation) if operation != "query" and _lacks(
                surroundings.writable, data.connection
            ):
                yield DefinitionFault(
                    f"{path}.connection", f"{data.connection} may be read alone", node
                )
            case _:
                pass
        if isinstance(data, WebhookData) and data.signing_secret is not None:
            place = f"{path}.signing_secret"
            yield from surroundings.faults_of_secret(data.signing_secret, place, node)


def _lacks(known: Collection[str] | None, name: str) -> bool:
    return known is not None and name not in known


def _faults_of_table(
    path: str,
    node: str,
    data: LoadData,
    keys: dict[str, tuple[str, ...]],
    surroundings: Surroundings,
) -> Iterator[DefinitionFault]:
    if data.table.startswith(("etl_", "st_", "pipeline")) or data.table in surroundings.reserved:
        yield DefinitionFault(
            f"{path}.table", f"{data.table} is a table of the platform: choose another", node
        )
    other = keys.setdefault(data.table, data.key)
    if other != data.key:
        yield DefinitionFault(
            f"{path}.key",
            f"{data.table} has the key {', '.join(other)} already, not {', '.join(data.key)}",
            node,
        )
