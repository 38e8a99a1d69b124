"""Destinations of notifications, named by setting and position, never by address."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import SecretStr

from temporaletl.notifications.events import TYPES, Event
from temporaletl.notifications.posting import (
    DeliveryRefusedError,
    encoded,
    post,
)
from temporaletl.notifications.settings import NotificationSettings, scheme_of, split_addresses
from temporaletl.webhook_signatures import signed_headers

SLACK = "SLACK_WEBHOOK_URL"
OTHERS = "NOTIFY_URLS"
_WEB = frozenset({"http", "https"})
_AGAIN = " (sent once again: whether it arrived before is not known)"
#: Libraries that log addresses, or parts of them, in clear.
_TALKATIVE = ("apprise", "urllib3", "oauthlib", "requests_oauthlib", "charset_normalizer")


@dataclass(frozen=True, slots=True)
class Destination:
    """One destination: `SLACK_WEBHOOK_URL`, or `NOTIFY_URLS.2` for the second of that list."""

    name: str
    address: SecretStr = field(repr=False)
    key: bytes | None = field(default=None, repr=False)

    def check(self) -> None:
        """Check that it is one to which can be sent.

        Raises:
            DeliveryRefusedError: it is not.
        """
        if self.name != SLACK and scheme_of(self.address.get_secret_value()) not in _WEB:
            _silence()
            from temporaletl.notifications import services  # noqa: PLC0415 - only where needed

            services.check(self.address.get_secret_value(), OTHERS)

    def send(self, event: Event, stop: threading.Event, *, repeated: bool = False) -> None:
        """Send an event; return once it was taken. Blocks for some ten seconds at most.

        `stop` ends it early, except with Apprise. `repeated`: a process died while it sent it, and
        whether it arrived is not known.

        Raises:
            DeliveryError: it was not taken, and may be later.
            DeliveryRefusedError: it will never be taken, as this is configured.
        """
        _silence()
        address = self.address.get_secret_value()
        text = f"{event.text}{_AGAIN}" if repeated else event.text
        if self.name == SLACK:
            post(address, encoded({"text": text}), {}, stop)
        elif scheme_of(address) in _WEB:
            body = encoded(
                {
                    "id": event.key,
                    "type": TYPES[event.kind],
                    "timestamp": event.at.isoformat(),
                    "text": text,
                    **event.data,
                }
            )
            post(address, body, signed_headers(self.key, event.key, body), stop)
        else:
            from temporaletl.notifications import services  # noqa: PLC0415 - only where needed

            services.send(address, OTHERS, event, text)


def destinations_of(settings: NotificationSettings) -> Sequence[Destination]:
    """The destinations that the settings name, Slack's first."""
    found = []
    if settings.slack_webhook_url is not None:
        found.append(Destination(SLACK, settings.slack_webhook_url))
    if settings.notify_urls is not None:
        key = settings.signing_key()
        addresses = split_addresses(settings.notify_urls.get_secret_value())
        found += [
            Destination(f"{OTHERS}.{number}", SecretStr(address), key)
            for number, address in enumerate(addresses, 1)
        ]
    return found


def check_destinations(settings: NotificationSettings) -> None:
    """Check that each destination is one to which can be sent; nothing is sent.

    Raises:
        DeliveryRefusedError: one is not (a ConfigurationError); names it.
    """
    for one in destinations_of(settings):
        try:
            one.check()
        except DeliveryRefusedError as error:
            raise DeliveryRefusedError(f"{one.name} {error}") from None


def _silence() -> None:
    """Keep what libraries log of addresses out of every log."""
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        if logger.level < logging.CRITICAL:
            logger.setLevel(logging.CRITICAL)
    apprise = logging.getLogger("apprise")
    # At ERROR, it logs whole addresses.
    apprise.disabled = True
    apprise.propagate = False
