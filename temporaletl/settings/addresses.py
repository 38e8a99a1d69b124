"""Addresses in settings: of sites, and which of them may be asked without encryption."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from pydantic import Field

from temporaletl.credentials import check_visible
from temporaletl.settings.environment import Settings


def site_address(text: str, *, example: str) -> str:
    """Return an address without the slash at its end; it may have a path.

    Raises:
        ValueError: it is no address of http, or more than an address.
    """
    check_visible(text.strip(), spaces=False)
    parts = urlsplit(text.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"must be an address like {example}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must be the bare address, without credentials or parameters")
    return text.strip().rstrip("/")


#: The hosts to which credentials may go without encryption, beside this machine.
_PLAIN_HTTP = "ETL_PLAIN_HTTP_HOSTS"


def check_encrypted(address: str, variable: str, *, needs: str = "https://") -> None:
    """Check that credentials may be sent to an address: over https, or to this machine.

    `needs` is what would be fine, in words: how the address begins, or what else to set.

    Raises:
        ValueError: it is plain http to another host that ETL_PLAIN_HTTP_HOSTS does not name.
    """
    parts = urlsplit(address)
    host = (parts.hostname or "").lower()
    if parts.scheme == "https" or is_loopback(host) or host in _PlainHttp.load().hosts:
        return
    raise ValueError(
        f"{variable} {'must begin with' if needs == 'https://' else 'wants'} {needs}: credentials "
        f"are sent there; where that cannot be, {_PLAIN_HTTP}={host} allows it"
    )


def is_loopback(host: str) -> bool:
    """Whether a host's name is one of this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class _PlainHttp(Settings):
    """Hosts to which credentials may be sent without encryption."""

    names: str = Field("", validation_alias=_PLAIN_HTTP)

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset(name.strip().lower() for name in self.names.split(",") if name.strip())
