"""Delivery through Apprise: mail, chats and other services, by addresses of its own schemes.

Imported only where such an address is configured: it takes most of a second.
"""

import asyncio
from urllib.parse import urlsplit

from apprise import Apprise, AppriseAsset, NotifyType
from apprise.common import NotifyFormat
from apprise.result import AppriseResultStatus

from temporaletl.notifications.events import TYPES, Event
from temporaletl.notifications.posting import WITHIN, DeliveryError, DeliveryRefusedError
from temporaletl.notifications.settings import scheme_of
from temporaletl.settings.addresses import check_encrypted
from temporaletl.warehouse.notifications import Kind

_TYPES: dict[Kind, NotifyType] = {
    "finished": NotifyType.SUCCESS,
    "failed": NotifyType.FAILURE,
    "late": NotifyType.WARNING,
    "recovered": NotifyType.SUCCESS,
    "test": NotifyType.INFO,
}


def check(address: str, variable: str) -> None:
    """Check that Apprise knows an address. `variable` is the setting that it is of.

    Raises:
        DeliveryRefusedError: it does not, or what is sent there would not be encrypted.
    """
    _service_of(address, variable)


def send(address: str, variable: str, event: Event, text: str) -> None:
    """Send an event to one service; return once it was taken.

    Raises:
        DeliveryError: the service did not take it; Apprise does not say whether it may later.
        DeliveryRefusedError: as `check`.
    """
    service = _service_of(address, variable)
    result = asyncio.run(
        service.async_notify(
            body=text,
            title=f"TemporalETL: {TYPES[event.kind]}",
            notify_type=_TYPES[event.kind],
            body_format=NotifyFormat.TEXT,
            timeout=WITHIN.total_seconds(),
        )
    )
    if result:
        return
    # Its logs hold the address.
    if result.status == AppriseResultStatus.TIMEOUT:
        raise DeliveryError(f"did not answer within {WITHIN.total_seconds():.0f} s")
    raise DeliveryError("was not reached, or refused it")


def _service_of(address: str, variable: str) -> Apprise:
    # No image and no link of its own in messages, nothing kept on disk, no redirect followed.
    asset = AppriseAsset(
        app_id="TemporalETL",
        app_desc="TemporalETL",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        image_path_mask="",
        http_redirects=False,
        storage_mode="memory",
        secure_logging=True,
        pgp_autogen=False,
        pem_autogen=False,
    )
    found = Apprise(asset=asset)
    if not found.add(address):
        raise DeliveryRefusedError("is no address that Apprise knows")
    _check_encrypted(address, variable, found)
    return found


def _check_encrypted(address: str, variable: str, apprise: Apprise) -> None:
    [service] = list(apprise)
    plain = getattr(service, "protocol", None) or ()
    if scheme_of(address) not in ((plain,) if isinstance(plain, str) else plain):
        return
    host = urlsplit(address).hostname or ""
    try:
        check_encrypted(f"http://{host}", variable, needs="the encrypted form of its scheme")
    except ValueError as error:
        raise DeliveryRefusedError(str(error)) from None
