"""Connections, over the API: listed, checked, created, replaced and deleted."""

from collections.abc import Callable, Mapping
from uuid import UUID

from pydantic import BaseModel, JsonValue

from temporaletl.checks.messages import Check
from temporaletl.control.client.api import Api
from temporaletl.control.client.calls.sources import CHECKED_WITHIN
from temporaletl.control.client.operations import over_api
from temporaletl.control.operations.connections import (
    CheckedConnection,
    ConnectionDetails,
    ConnectionReport,
    Connections,
    check_connections,
    list_connections,
    unknown_connection,
)
from temporaletl.control.operations.stored_connections import (
    DeletedConnection,
    Places,
    PutConnection,
    check_version,
    create_connection,
    delete_connection,
    replace_connection,
)
from temporaletl.errors import NotFoundError
from temporaletl.warehouse.audit import Author
from temporaletl.warehouse.source_connections import StoredConnection

_CONNECTIONS = "source-connections"
#: As many as nobody has.
_ALL = 100_000


class _Checks(BaseModel):
    checks: tuple[Check, ...]


class _Put(StoredConnection):
    notes: tuple[str, ...]


class _Deleted(BaseModel):
    streams: tuple[str, ...]


@over_api(list_connections)
async def _list_connections(api: Api) -> Connections:
    found, _ = await api.pages(ConnectionDetails, _CONNECTIONS, limit=_ALL)
    return Connections([_report_of(one) for one in found], file=None)


def _report_of(found: ConnectionDetails) -> ConnectionReport:
    shared = found.model_dump(include={*ConnectionReport.model_fields} - {"settings", "secrets"})
    names = {*found.settings, *found.secrets} if found.fault is None else ()
    return ConnectionReport(
        **shared,
        settings=tuple(sorted(names)),
        secrets=tuple(sorted(found.secrets)) if found.fault is None else (),
    )


@over_api(check_connections)
async def _check_connections(
    api: Api,
    name: str | None = None,
    report: Callable[[CheckedConnection], None] = lambda _: None,
) -> list[CheckedConnection]:
    if name is None:
        listed, _ = await api.pages(ConnectionDetails, _CONNECTIONS, limit=_ALL)
    else:
        try:
            listed = [await api.get(ConnectionDetails, _CONNECTIONS, name)]
        except NotFoundError:
            raise unknown_connection(name) from None
    results = []
    for one in listed:
        found = await api.send(
            *("POST", _Checks, _CONNECTIONS, one.name, "check"),
            params={"settings_only": "true"},
            within=CHECKED_WITHIN,
        )
        results.append(CheckedConnection(name=one.name, source=one.source, checks=found.checks))
        report(results[-1])
    return results


@over_api(create_connection)
async def _create_connection(
    api: Api,
    name: str,
    source: str,
    settings: Mapping[str, JsonValue],
    secrets: Places,
    *,
    author: Author | None = None,
) -> PutConnection:
    del author  # the API knows who sends the request
    wanted = {"name": name, "source": source, **_declared(settings, secrets)}
    return _put(await api.send("POST", _Put, _CONNECTIONS, json=wanted))


@over_api(replace_connection)
async def _replace_connection(
    api: Api,
    key: str | UUID,
    settings: Mapping[str, JsonValue],
    secrets: Places,
    *,
    expected_version: int | None = None,
    author: Author | None = None,
) -> PutConnection:
    del author
    seen, tag = await api.tagged(StoredConnection, _CONNECTIONS, str(key))
    check_version(seen, expected_version)
    wanted = _declared(settings, secrets)
    headers = {"If-Match": tag}
    return _put(await api.send("PUT", _Put, _CONNECTIONS, str(key), json=wanted, headers=headers))


@over_api(delete_connection)
async def _delete_connection(
    api: Api,
    key: str | UUID,
    *,
    expected_version: int | None = None,
    force: bool = False,
    author: Author | None = None,
) -> DeletedConnection:
    del author
    seen, tag = await api.tagged(StoredConnection, _CONNECTIONS, str(key))
    check_version(seen, expected_version)
    gone = await api.send(
        *("DELETE", _Deleted, _CONNECTIONS, str(key)),
        params={"force": str(force).lower()},
        headers={"If-Match": tag},
    )
    return DeletedConnection(seen, gone.streams)


def _declared(settings: Mapping[str, JsonValue], secrets: Places) -> dict[str, JsonValue]:
    return {
        "settings": dict(settings),
        "secrets": {name: dict(place) for name, place in secrets.items()},
    }


def _put(made: _Put) -> PutConnection:
    fields = {name: getattr(made, name) for name in StoredConnection.model_fields}
    return PutConnection(StoredConnection(**fields), made.notes)
