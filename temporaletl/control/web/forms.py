"""Fields of forms: dates, objects as JSON, and the version that was seen."""

from datetime import UTC, datetime

import msgspec
from pydantic import JsonValue

from temporaletl.control.web.visit import Form
from temporaletl.errors import ConfigurationError


def parse_date(name: str, text: str) -> datetime | None:
    """A date or a timestamp in UTC, as a browser's fields send them; None for an empty field.

    Raises:
        ConfigurationError: it is neither.
    """
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{name}: {text!r} is no date, as 2026-11-27 is one") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def parse_object(name: str, text: str) -> dict[str, JsonValue]:
    """A JSON object; an empty one for an empty field.

    Raises:
        ConfigurationError: it is none.
    """
    found = parse_json(name, text or "{}")
    if not isinstance(found, dict):
        raise ConfigurationError(f'{name}: must be a JSON object, as {{"name": "value"}}')
    return found


def parse_json(name: str, text: str) -> JsonValue:
    """Any value, written as JSON.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        found: JsonValue = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{name}: is no JSON: {error}") from None
    return found


def version_of(form: Form) -> int:
    """The version of what a form replaces or deletes, as its page showed it.

    Raises:
        ConfigurationError: it is missing.
    """
    text = form.text("version")
    if not text.isdigit():
        raise ConfigurationError("version: the one that was seen is missing: load the page again")
    return int(text)
