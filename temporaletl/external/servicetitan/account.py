"""The account view of ServiceTitan: the app, its scopes, and the streams it may read."""

import msgspec

from temporaletl.accounts import AccountView, account_view
from temporaletl.errors import CredentialsError
from temporaletl.external.servicetitan.resources import RESOURCES
from temporaletl.external.servicetitan.settings import SOURCE, ServiceTitanSettings
from temporaletl.external.servicetitan.site import ServiceTitanSite, open_site

#: A page without records shows as well whether the list may be read, and cannot fail at one.
_NEVER = "9000-01-01T00:00:00Z"


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]


@account_view(SOURCE)
def servicetitan_account() -> AccountView:
    """The tenant, the scopes of the app's token, and the streams that the app may read of it.

    Raises:
        CredentialsError: client or app key is refused, or the app may read nothing of the tenant.
        ETLError: as `ServiceTitanSite.read`.
    """
    settings = ServiceTitanSettings.load()
    site = open_site(settings)
    scopes = site.scopes()
    looks = {stream: site.begin(_refusal, site, stream) for stream in RESOURCES}
    found = {stream: look.result() for stream, look in looks.items()}
    refusals = {stream: refusal for stream, refusal in found.items() if refusal is not None}
    if len(refusals) == len(RESOURCES):
        raise next(iter(refusals.values()))
    return AccountView(
        f"tenant {settings.tenant_id}",
        permissions=frozenset(scopes or ()),
        containers=frozenset(RESOURCES.keys() - refusals.keys()),
        site=f"tenant {settings.tenant_id}",
    )


def _refusal(site: ServiceTitanSite, stream: str) -> CredentialsError | None:
    nothing = {"page": 1, "pageSize": 1, "modifiedOnOrAfter": _NEVER}
    try:
        site.read(RESOURCES[stream], stream, nothing, _Page)
    except CredentialsError as error:
        return error
    return None
