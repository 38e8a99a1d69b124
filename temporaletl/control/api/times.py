"""Timestamps in requests: RFC 3339 texts with a time zone, as the document says."""

import re
from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator

_FORM = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _text(value: object) -> object:
    # Numbers, and texts of numbers, would be taken for seconds since 1970.
    if isinstance(value, str) and _FORM.fullmatch(value):
        return value
    raise ValueError("must be a time with its zone, as 2026-11-27T18:00:00Z")


#: A time of a request.
Timestamp = Annotated[AwareDatetime, BeforeValidator(_text)]
