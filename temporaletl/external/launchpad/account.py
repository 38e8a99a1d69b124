"""The account view of Launchpad: the account, and the configured subjects that it sees."""

import msgspec

from temporaletl.accounts import AccountView, account_view
from temporaletl.errors import CredentialsError
from temporaletl.external.answers import decode_record
from temporaletl.external.launchpad.settings import LaunchpadSettings
from temporaletl.external.launchpad.site import STABLE, LaunchpadSite, open_site
from temporaletl.external.launchpad.transport import UnreadableError

#: Each costs a request; of more people none is looked at, as some would stand for others.
_MOST_LOOKED_AT = 20
_ANONYMOUS = "anonymous"


class _Me(msgspec.Struct):
    name: str


@account_view("launchpad")
def launchpad_account() -> AccountView | None:
    """The token's person, and those of the settings' people and targets that it may see.

    Without a token it is nobody in particular, who sees what everybody does. People who are known
    from elsewhere than the settings are not looked at, nor are more than a few of them.

    Raises:
        CredentialsError: a token is set, and Launchpad takes us for nobody.
        ETLError: as `LaunchpadSite.read`.
    """
    settings = LaunchpadSettings.load()
    site = open_site(settings)
    account = _ANONYMOUS if settings.anonymous else _me(site)
    subjects = [
        *(f"~{name}" for name in settings.members if len(settings.members) <= _MOST_LOOKED_AT),
        *(name for name in settings.targets if len(settings.targets) <= _MOST_LOOKED_AT),
    ]
    looks = [(subject, site.begin(_sees, site, subject)) for subject in subjects]
    return AccountView(
        account,
        containers=frozenset(subject for subject, seen in looks if seen.result()),
        asked_for=frozenset(subjects),
        # It gives no id of its own. Staging has production's ids, and other content. Behind any
        # other address, such as a proxy's, may be either.
        site=settings.instance and f"instance {settings.instance}",
    )


def _me(site: LaunchpadSite) -> str:
    try:
        raw = site.read_entry(f"{site.settings.service_root}{STABLE}/people/+me")
    except UnreadableError as error:
        raise CredentialsError(
            f"launchpad: the access token stands for nobody (HTTP {error.status} for people/+me); "
            "check LP_CONSUMER_KEY, LP_ACCESS_TOKEN_KEY and LP_ACCESS_TOKEN_SECRET"
        ) from None
    return decode_record(_Me, raw).name


def _sees(site: LaunchpadSite, subject: str) -> bool:
    try:
        site.read_entry(f"{site.settings.service_root}{STABLE}/{subject}")
    except UnreadableError:
        return False
    return True
