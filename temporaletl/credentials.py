"""Checks of credentials, of other values that are sent beside them, and of names."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

from temporaletl.errors import ConfigurationError

#: What a header's value may hold, beside spaces within it.
_IN_HEADERS = re.compile(r"[\x20-\x7e\xa1-\xac\xae-\xff]+")


_LONGEST_TITLE = 100
#: What the metadata of gRPC may hold.
_IN_METADATA = re.compile(r"[\x20-\x7e]+")
#: Unicode's classes of what nobody sees: controls, marks of format, surrogates, ends of lines.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def for_header(text: str) -> str:
    """Return a text as a header can hold it, without white space around it.

    Raises:
        ValueError: a character of it can stand in no header; the text is not repeated.
    """
    return _held(text, _IN_HEADERS, "header")


def for_metadata(text: str) -> str:
    """The same for what Temporal is sent."""
    return _held(text, _IN_METADATA, "header of gRPC")


def _held(text: str, allowed: re.Pattern[str], where: str) -> str:
    text = text.strip()
    if not text:
        raise ValueError("is empty")
    for position, character in enumerate(text, 1):
        if not allowed.fullmatch(character):
            raise _odd(character, position, f"that no {where} can")
    return text


def check_visible(text: str, *, spaces: bool = True) -> None:
    """Check that a text holds no invisible characters.

    Raises:
        ValueError: it does; the text is not repeated.
    """
    for position, character in enumerate(text, 1):
        if unicodedata.category(character) in _UNSEEN or (character.isspace() and not spaces):
            raise _odd(character, position, "that it cannot")


def check_title(what: str, name: str) -> None:
    """Check a name that a person gives to something, `what`: visible, and not too long.

    Raises:
        ConfigurationError: it is not.
    """
    try:
        check_visible(name)
    except ValueError as error:
        raise ConfigurationError(f"the name of a {what} {error}") from None
    if not name.strip() or name != name.strip() or len(name) > _LONGEST_TITLE:
        raise ConfigurationError(
            f"the name of a {what} has from 1 to {_LONGEST_TITLE} characters, and no blanks "
            "around it"
        )


def _odd(character: str, position: int, whose: str) -> ValueError:
    return ValueError(
        f"holds a character {whose} (U+{ord(character):04X}, at position {position}): was more "
        "than the value copied?"
    )


def _trimmed(text: str) -> str:
    check_visible(text := text.strip())
    if not text:
        raise ValueError("is empty")
    return text


#: A text that is sent in a header.
HeaderText = Annotated[str, AfterValidator(for_header)]
#: A text that is sent in a body: the name of a user.
PlainText = Annotated[str, AfterValidator(_trimmed)]
