"""JSON for columns of type jsonb, whoever wrote its texts."""

from typing import Any

from psycopg.types.json import Jsonb

from temporaletl.rows import storable_text
from temporaletl.secrets import cleaned


def as_jsonb(value: Any) -> Jsonb:
    """A value of JSON for a column of type jsonb.

    U+0000 and halves of surrogate pairs, which no jsonb holds, are replaced by U+FFFD: errors and
    titles of nodes may have them from whom was asked.
    """
    return Jsonb(cleaned(value, storable_text))
