"""Field rules: values that are left out, redacted or hashed before rows are stored or shown.

`ETL_FIELD_RULES` lists them, by source and column, or a key within a column of JSON:

    jira.relation_properties.email=hash, jira.event_properties.description=drop, *.person=hash

`drop` leaves the value out, `redact` puts a fixed text in its place, and `hash` a digest that is
the same wherever the value is the same (HMAC-SHA256 with `ETL_HASH_KEY`). A value that is hashed
or redacted already stays as it is.
"""

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec

from temporaletl.errors import ConfigurationError
from temporaletl.rows import Row

Action = Literal["drop", "redact", "hash"]

REDACTED = "[redacted]"
_HASHED = "hash:"
_DIGITS = 32
_IS_HASHED = re.compile(rf"{_HASHED}[0-9a-f]{{{_DIGITS}}}")
_RULE = re.compile(r"(?P<source>\*|[^.=\s]+)\.(?P<path>[^=]+)=(?P<action>\w+)")
#: Columns of events that say what an event is.
_FIXED = frozenset({"event_type", "event_time_utc", "timezone"})
_NOTHING = object()


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One rule: the source (`*`: all), the column and the keys within it, and what is done."""

    source: str
    path: tuple[str, ...]
    action: Action

    def __str__(self) -> str:
        return f"{self.source}.{'.'.join(self.path)}={self.action}"


def parse_rules(text: str) -> list[FieldRule]:
    """Read rules as the setting has them.

    Raises:
        ValueError: one is none; says how a rule is written.
    """
    rules = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _RULE.fullmatch(part)
        path = tuple(key.strip() for key in found["path"].split(".")) if found else ()
        if found is None or not all(path) or found["action"] not in get_args(Action):
            raise ValueError(
                f"{part!r} is no rule: SOURCE.COLUMN=ACTION or SOURCE.COLUMN.KEY=ACTION, with an "
                f"action of {', '.join(get_args(Action))}"
            )
        rules.append(FieldRule(found["source"], path, found["action"]))  # type: ignore[arg-type]
    return rules


class FieldRules:
    """The rules of one source's rows."""

    def __init__(self, rules: Sequence[FieldRule], key: bytes = b"") -> None:
        self._rules = rules
        self._key = key
        self._of_class: dict[type[Row], list[tuple[str, Callable[[Any], Any]]]] = {}

    def __bool__(self) -> bool:
        return bool(self._rules)

    def apply[R: Row](self, row: R) -> R:
        """A row with its values left out, redacted or hashed."""
        kind = type(row)
        if (changes := self._of_class.get(kind)) is None:
            changes = self._of_class[kind] = [
                (rule.path[0], self._change(rule))
                for rule in self._rules
                if rule.path[0] in kind.__struct_fields__
            ]
        if not changes:
            return row
        values: dict[str, Any] = {}
        for name, change in changes:
            values[name] = change(values.get(name, getattr(row, name)))
        return msgspec.structs.replace(row, **values)

    def _change(self, rule: FieldRule) -> Callable[[Any], Any]:
        keys = rule.path[1:]

        def change(value: Any) -> Any:
            changed = self._within(value, keys, rule.action)
            return None if changed is _NOTHING else changed

        return change

    def _within(self, value: Any, keys: tuple[str, ...], action: Action) -> Any:
        if value is None:
            return None
        if not keys:
            return self._done(value, action)
        if isinstance(value, Mapping):
            if keys[0] not in value:
                return value
            changed = self._within(value[keys[0]], keys[1:], action)
            rest = {name: one for name, one in value.items() if name != keys[0]}
            return rest if changed is _NOTHING else {**rest, keys[0]: changed}
        if isinstance(value, list | tuple):
            return [self._within(one, keys, action) for one in value]
        return value

    def _done(self, value: Any, action: Action) -> Any:
        if action == "drop":
            return _NOTHING
        if action == "redact":
            return REDACTED
        if isinstance(value, list | tuple):
            return [self._done(one, action) for one in value]
        text = value if isinstance(value, str) else msgspec.json.encode(value, order="sorted")
        if isinstance(text, str):
            if _IS_HASHED.fullmatch(text) or text == REDACTED:
                return text
            text = text.encode("utf-8", "surrogatepass")
        return _HASHED + hmac.digest(self._key, text, "sha256").hex()[:_DIGITS]


NO_RULES = FieldRules(())


def check_rule(rule: FieldRule, rows: Sequence[type[Row]]) -> None:
    """Check that a rule can be followed for these row classes.

    Raises:
        ConfigurationError: it is for a column that none has, that says which row it is, or that
            cannot be changed so.
    """
    column = rule.path[0]
    holders = [row for row in rows if column in row.__struct_fields__]
    if not holders and rule.source != "*":
        known = sorted({name for row in rows for name in row.__struct_fields__})
        raise ConfigurationError(
            f"ETL_FIELD_RULES: {rule}: no row of {rule.source} has a column {column}; the columns "
            f"are {', '.join(known)}"
        )
    for row in holders:
        if column in row.key or column in _FIXED:
            raise ConfigurationError(
                f"ETL_FIELD_RULES: {rule}: {row.__name__}.{column} says which row it is, and stays"
            )
        field = next(one for one in msgspec.structs.fields(row) if one.name == column)
        holds = msgspec.inspect.type_info(field.type)
        kinds = holds.types if isinstance(holds, msgspec.inspect.UnionType) else (holds,)
        if any(isinstance(kind, msgspec.inspect.AnyType) for kind in kinds):
            continue
        if rule.path[1:]:
            raise ConfigurationError(f"ETL_FIELD_RULES: {rule}: {column} holds no JSON")
        if rule.action == "drop":
            if any(isinstance(kind, msgspec.inspect.NoneType) for kind in kinds):
                continue
            raise ConfigurationError(
                f"ETL_FIELD_RULES: {rule}: {row.__name__}.{column} is never empty: redact it"
            )
        if not any(isinstance(kind, msgspec.inspect.StrType) for kind in kinds):
            raise ConfigurationError(
                f"ETL_FIELD_RULES: {rule}: {row.__name__}.{column} holds no text: drop it"
            )
