"""The identity of a Jira site: an id of its own, by which two sites are told apart.

A Cloud site has a cloudId, and a Data Center a server id, which its application links show to
everybody. Both stay when the site's address changes.
"""

import re

import msgspec
import requests

from temporaletl.errors import ETLError
from temporaletl.external.answers import MisfitAnswerError, decode
from temporaletl.external.jira.site import JiraSite
from temporaletl.telemetry.logs import get_logger

log = get_logger("temporaletl.external.jira")

_FEW_ATTEMPTS = 2
#: An answer that is not for us says nothing.
_NOT_TOLD = frozenset({400, 401, 403, 404, 405})
_SERVER_ID = re.compile(rb"<id>([0-9A-Fa-f-]{8,64})</id>")


class _Tenant(msgspec.Struct, rename="camel"):
    cloud_id: str


def identity_of(site: JiraSite) -> str | None:
    """Return `cloud ID` or `server ID`; None where the site does not tell, or does not answer.

    Blocks. Raises nothing: whoever needs the site itself finds out.
    """
    try:
        if site.cloud:
            return site.request_beside("_edge/tenant_info", _cloud_id, _NOT_TOLD, _FEW_ATTEMPTS)
        path = "rest/applinks/1.0/manifest"
        return site.request_beside(path, _server_id, _NOT_TOLD, _FEW_ATTEMPTS)
    except ETLError as error:
        log.warning("site_not_told", error=str(error))
        return None


def _cloud_id(answer: requests.Response) -> str | None:
    if answer.status_code in _NOT_TOLD:
        return None
    found = decode(_Tenant, answer, source="jira").cloud_id
    if not found:
        raise MisfitAnswerError("jira: tenant_info names no cloudId")
    return f"cloud {found}"


def _server_id(answer: requests.Response) -> str | None:
    if answer.status_code in _NOT_TOLD:
        return None
    found = _SERVER_ID.search(answer.content)
    return f"server {found[1].decode()}" if found else None
