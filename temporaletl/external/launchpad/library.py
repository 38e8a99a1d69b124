"""launchpadlib over our own transport: a module of its own, imported when a site is first used."""

import json
from typing import Any

from launchpadlib.credentials import (  # type: ignore[import-untyped]
    AccessToken,
    AnonymousAccessToken,
    Credentials,
)
from launchpadlib.launchpad import Launchpad  # type: ignore[import-untyped]
from lazr.restfulclient._json import DatetimeJSONEncoder  # type: ignore[import-untyped]
from wadllib.application import Resource  # type: ignore[import-untyped]

from temporaletl.external.launchpad.settings import LaunchpadSettings
from temporaletl.external.launchpad.transport import Transport

_ANONYMOUS = "temporaletl"


class Library(Launchpad):  # type: ignore[misc]  # the library has no types
    """launchpadlib's service root, over our own transport."""

    def __init__(self, transport: Transport, root: str, version: str, credentials: Any) -> None:
        self._transport = transport
        # Without a cache of its own it would make a folder for one.
        super().__init__(credentials, None, None, root, cache={}, version=version)

    def httpFactory(self, *_: Any) -> Transport:  # noqa: N802 - the name is the library's
        return self._transport

    def search_url(self, subject: str, operation: str, **query: Any) -> str | None:
        """The URL of a search; None where Launchpad offers no such search there."""
        # A person is taken for granted, a target looked at: it may be of many types.
        resource = self.people(subject[1:]) if subject[0] == "~" else self.load(subject)
        try:
            method = resource.lp_get_named_operation(operation).wadl_method
        except KeyError:
            return None
        # As launchpadlib encodes them: JSON, but for values out of a list of options.
        plain = {param.name for param in method.request.query_params if param.options}
        encoded = {
            name: value if name in plain else json.dumps(value, cls=DatetimeJSONEncoder)
            for name, value in query.items()
        }
        return str(method.build_request_url(**encoded))

    def options(self, kind: str, field: str) -> list[str]:
        """The values that a field of a kind of entry can have; empty where it does not say."""
        application, url = self._wadl, f"{self._root_uri}#{kind}"
        described = application.representation_definitions.get(f"{kind}-full")
        if described is None:
            return []
        entry = Resource(application, url, application.get_resource_type(url).tag)
        return [
            option.value
            for param in described.params(entry)
            if param.name == field
            for option in param.options
        ]


def credentials_of(settings: LaunchpadSettings) -> Any:
    """Credentials that sign requests: those of the access token, or nobody's."""
    key, secret = settings.access_token_key, settings.access_token_secret
    if settings.consumer_key is None or key is None or secret is None:
        return Credentials(_ANONYMOUS, access_token=AnonymousAccessToken())
    token = AccessToken(key.get_secret_value(), secret.get_secret_value())
    return Credentials(settings.consumer_key, access_token=token)
