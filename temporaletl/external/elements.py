"""Splits JSON into the bytes of its members and elements, whatever is in these.

A decoder fails as a whole at one number beyond its range, one nesting too deep, one byte that is
no UTF-8. The structure alone can be followed without any of that: by brackets, commas and texts.
"""

import re
from collections.abc import Iterator

#: A text, or a character of the structure.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{},]', re.DOTALL)
_KEY = re.compile(rb'\s*("[^"\\]*(?:\\.[^"\\]*)*")\s*:\s*', re.DOTALL)
_BLANKS = frozenset(b" \t\r\n")
_DEPTHS = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}


class StructureError(ValueError):
    """The brackets do not match, something is missing between commas, or it ends in the middle."""


def elements(document: bytes) -> list[bytes]:
    """Return the elements of a list, each as it stands there.

    Follows the structure alone: an element need not be valid JSON as long as its brackets and
    texts end. Needs memory for the elements, and none for their depth.

    Raises:
        StructureError: it is no list, or not a whole one.
    """
    return [document[start:end] for start, end in _parts(document, b"[")]


def members(document: bytes) -> dict[str, tuple[int, int]]:
    """Return where in the document the value of each member of an object stands; the last wins.

    Raises:
        StructureError: it is no object, or not a whole one.
    """
    found: dict[str, tuple[int, int]] = {}
    for start, end in _parts(document, b"{"):
        key = _KEY.match(document, start, end)
        if key is None:
            raise StructureError("a member has no name")
        found[key[1][1:-1].decode("utf-8", "replace")] = (key.end(), end)
    return found


def _parts(document: bytes, opening: bytes) -> Iterator[tuple[int, int]]:
    """The spans of the parts between the commas of the outermost list or object, without blanks."""
    begin, _ = _trimmed(document, 0, len(document))
    if document[begin : begin + 1] != opening:
        raise StructureError(f"it does not begin with {opening.decode()}")
    depth, first, parts = 0, begin + 1, 0
    for token in _TOKEN.finditer(document):
        step = _DEPTHS.get(token[0], 0)
        depth += step
        ends = step < 0 and depth == 0
        if ends or (depth == 1 and token[0] == b","):
            start, end = _trimmed(document, first, token.start())
            if start < end:
                yield start, end
                parts += 1
            elif parts or not ends:
                raise StructureError("something is missing between commas")
            first = token.end()
        if ends:
            if _trimmed(document, first, len(document)) != (len(document), len(document)):
                raise StructureError("something follows its end")
            return
    raise StructureError("it ends in the middle")


def _trimmed(document: bytes, start: int, end: int) -> tuple[int, int]:
    """A span without the blanks at its ends; an empty one where there is nothing else."""
    # Not by copies of it: a part may be as large as all of the document.
    while start < end and document[start] in _BLANKS:
        start += 1
    while start < end and document[end - 1] in _BLANKS:
        end -= 1
    return start, end
