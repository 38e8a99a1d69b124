"""Schemas that answers of models are bound to: JSON Schema, without what reaches out or explodes.

A schema comes with a definition, from anybody: nothing is fetched for it, references go to its own
`$defs`, none of them in a circle, and patterns are matched in linear time.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import JsonValue

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFINED = re.compile(r"#/\$defs/([A-Za-z0-9_.-]+)")
#: Keywords by which a reference could lead elsewhere than it says.
_LEADING_ELSEWHERE = ("$anchor", "$dynamicAnchor", "$dynamicRef", "$id", "$recursiveRef")
_MOST_DEPTH = 64
#: Parts of a schema, those behind each reference counted each time.
_MOST_PARTS = 10_000


class Misfit(NamedTuple):
    """What does not fit a schema: in full, which quotes the value; and what rule it breaks."""

    message: str
    rule: str


def check_schema(schema: Mapping[str, JsonValue]) -> None:
    """Check a schema: that of an object, valid, and harmless.

    Raises:
        ValueError: it is not.
    """
    from jsonschema_rs import ValidationError, meta

    if schema.get("type") != "object":
        raise ValueError('needs "type": "object"')
    if schema.get("$schema", _DIALECT) != _DIALECT:
        raise ValueError(f"$schema is {_DIALECT}, or left out")
    _Unfolded(schema).count(dict(schema), ())
    try:
        meta.validate(dict(schema))
        _validator(schema)
    except ValidationError as error:
        place = ".".join(map(str, error.instance_path))
        raise ValueError(f"is no JSON Schema at {place or 'its root'}: {error.message}") from None


def misfit_of(schema: Mapping[str, JsonValue], value: JsonValue) -> Misfit | None:
    """What of a value does not fit a schema that was checked; None where it fits."""
    found = next(iter(_validator(schema).iter_errors(value)), None)
    if found is None:
        return None
    place = "".join(f"[{one!r}]" for one in found.instance_path)
    rule = ".".join(map(str, found.schema_path))
    return Misfit(f"at {place or 'its root'}: {found.message}", f"breaks {rule} of the schema")


def _validator(schema: Mapping[str, JsonValue]) -> Any:
    from jsonschema_rs import Draft202012Validator, RegexOptions

    return Draft202012Validator(dict(schema), pattern_options=RegexOptions(), offline=True)


class _Unfolded:
    """Counts the parts of a schema as if each reference were replaced by what it names."""

    def __init__(self, schema: Mapping[str, JsonValue]) -> None:
        defined = schema.get("$defs")
        self._defined: Mapping[str, JsonValue] = defined if isinstance(defined, dict) else {}
        self._counted: dict[str, int] = {}

    def count(self, part: JsonValue, within: tuple[str, ...], depth: int = 0) -> int:
        if depth > _MOST_DEPTH:
            raise ValueError(f"is nested deeper than {_MOST_DEPTH} levels")
        parts = 1
        if isinstance(part, dict):
            parts += self._behind_reference(part, within)
            wrong = next((one for one in _LEADING_ELSEWHERE if isinstance(part.get(one), str)), "")
            if wrong:
                raise ValueError(f"{wrong} is not taken: references go to #/$defs/NAME")
        for inner in _inner(part):
            parts += self.count(inner, within, depth + 1)
        if parts > _MOST_PARTS:
            raise ValueError(f"has more than {_MOST_PARTS:,} parts, references replaced")
        return parts

    def _behind_reference(self, part: Mapping[str, JsonValue], within: tuple[str, ...]) -> int:
        reference = part.get("$ref")
        if not isinstance(reference, str):
            return 0
        found = _DEFINED.fullmatch(reference)
        name = found[1] if found else ""
        if name not in self._defined:
            raise ValueError(f"$ref {reference[:80]!r} is none of its own: #/$defs/NAME")
        if name in within:
            raise ValueError(f"$ref {reference} leads back to itself")
        if name not in self._counted:
            self._counted[name] = self.count(self._defined[name], (*within, name))
        return self._counted[name]


def _inner(part: JsonValue) -> Iterator[JsonValue]:
    match part:
        case dict():
            yield from part.values()
        case list():
            yield from part
