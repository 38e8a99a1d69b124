"""Settings of field rules: see `temporaletl.field_rules`."""

from collections.abc import Sequence
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from temporaletl.field_rules import FieldRule, FieldRules, check_rule, parse_rules
from temporaletl.rows import Row
from temporaletl.settings.platform import Settings


class FieldSettings(Settings):
    """Field rules, and the key of digests."""

    free_secrets = frozenset({"hash_key"})

    rules: str = Field(
        "",
        validation_alias="ETL_FIELD_RULES",
        description="values that are left out, redacted or hashed: SOURCE.COLUMN[.KEY]=ACTION, …",
    )
    hash_key: SecretStr | None = Field(
        None,
        validation_alias="ETL_HASH_KEY",
        description="the key of digests of hashed values; another one gives others",
    )

    @field_validator("rules")
    @classmethod
    def _can_be_parsed(cls, text: str) -> str:
        parse_rules(text)
        return text

    @model_validator(mode="after")
    def _has_key(self) -> Self:
        if self.hash_key is None and any(rule.action == "hash" for rule in self.parsed):
            raise ValueError("ETL_FIELD_RULES hashes values, but ETL_HASH_KEY is not set")
        return self

    @property
    def parsed(self) -> list[FieldRule]:
        return parse_rules(self.rules)


def load_field_rules(source: str, rows: Sequence[type[Row]]) -> FieldRules:
    """The rules of a source with these row classes, by the environment.

    Raises:
        ConfigurationError: a setting is wrong, or a rule as `check_rule` says.
    """
    settings = FieldSettings.present()
    rules = [rule for rule in settings.parsed if rule.source in ("*", source)]
    for rule in rules:
        check_rule(rule, rows)
    key = settings.hash_key
    return FieldRules(rules, b"" if key is None else key.get_secret_value().encode())
