"""Flags in bodies of requests: true or false, as the document says, and no 0, 1 or "no"."""

from typing import Annotated

from pydantic import Strict

#: A yes or no of a request.
Flag = Annotated[bool, Strict()]
