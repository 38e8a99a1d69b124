"""The account view of Salesforce: the user, and the objects that the user may read."""

import re

import msgspec

from temporaletl.accounts import AccountView, account_view, note_accepted
from temporaletl.external.answers import MisfitAnswerError, decode_record, reading
from temporaletl.external.salesforce.org import SalesforceOrg, open_org
from temporaletl.external.salesforce.query import Selection, ask
from temporaletl.external.salesforce.refusals import (
    GoneError,
    InvalidFieldError,
    InvalidTypeError,
)
from temporaletl.external.salesforce.settings import SalesforceSettings
from temporaletl.external.salesforce.streams import STREAMS
from temporaletl.external.threads import Begun

#: Permissions beyond the sharing rules; without them, a user sees what is shared with it.
_PERMISSIONS = ("PermissionsViewAllData", "PermissionsModifyAllData", "PermissionsViewAllUsers")
#: Ends with the Ids of the org and the user.
_IDENTITY = re.compile(r"/id/(?P<org>00D\w{9,15})/(?P<user>005\w{9,15})/?$")


class _Resources(msgspec.Struct):
    """The resources of an API version."""

    identity: str | None = None


class _Object(msgspec.Struct):
    name: str
    queryable: bool = True


class _Objects(msgspec.Struct):
    sobjects: list[_Object]


@account_view("salesforce")
def salesforce_account() -> AccountView | None:
    """The user behind the login, its wide permissions, and which of the streams' objects it sees.

    None where the org does not tell who asks.

    Raises:
        ConfigurationError: a setting is wrong.
        CredentialsError: the login is refused, or has no API.
        ETLError: as `SalesforceOrg.request`.
    """
    settings = SalesforceSettings.load()
    org = open_org(settings)
    begun = _begin(org) if org.let_in else None
    account = _account(org)
    if account is None:
        return None
    note_accepted("salesforce")
    queryable, permissions = begun or _begin(org)
    wanted = {item.name for stream in STREAMS.values() for item in stream}
    employees = settings.employee_object
    return AccountView(
        account,
        permissions=permissions.result(),
        containers=frozenset(wanted & queryable.result() | {employees}),
        asked_for=frozenset(wanted | {employees}),
        site=f"org {account.partition('/')[0]}",
    )


def _account(org: SalesforceOrg) -> str | None:
    try:
        found = org.request("GET", org.api, read=reading(_Resources, source="salesforce"))
    except GoneError:
        return None
    if found.identity is None:
        return None
    ids = _IDENTITY.search(found.identity)
    if ids is None:
        raise MisfitAnswerError(
            f"salesforce: {org.api} names an identity without the Ids of an org and a user"
        )
    return f"{ids['org']}/{ids['user']}"


def _begin(org: SalesforceOrg) -> tuple[Begun[frozenset[str]], Begun[frozenset[str]]]:
    return org.begin(_queryable, org), org.begin(_permissions, org)


def _queryable(org: SalesforceOrg) -> frozenset[str]:
    found = org.request("GET", f"{org.api}/sobjects", read=reading(_Objects, source="salesforce"))
    return frozenset(item.name for item in found.sobjects if item.queryable)


def _permissions(org: SalesforceOrg) -> frozenset[str]:
    names = list(_PERMISSIONS)
    while names:
        # An object of one row: what the user who asks may do.
        selection = Selection("UserPermissionAccess", fields=tuple(names), present=True)
        soql = f"SELECT {', '.join(names)} FROM {selection.object} LIMIT 1"  # noqa: S608 - constants
        try:
            rows = ask(org, selection, soql, 200).records
        except InvalidFieldError as error:
            # Of an edition, or a version, that does not know it.
            if error.field not in names:
                break
            names.remove(error.field)
        except InvalidTypeError:
            break
        else:
            found = decode_record(dict[str, msgspec.Raw], rows[0]) if rows else {}
            return frozenset(name for name in names if bytes(found.get(name, b"")) == b"true")
    return frozenset()
