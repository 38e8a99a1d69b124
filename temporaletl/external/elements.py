"""Splits JSON into the bytes of its members and elements, whatever is in these.

A decoder fails as a whole at one number beyond its range, one nesting too deep, one byte that is
no UTF-8. The structure alone can be followed without any of that: by brackets, commas and texts.
"""

import re
from collections.abc import Iterator

#: A text, or a character of the structure.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{},]', re.DOTALL)
_KEY = re.compile(rb'\s*("[^"\\]*(?:\\.[^"\\]*)*")\s*:\s*', re.DOTALL)
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
    return [document[start:end].strip() for start, end in _parts(document, b"[")]


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
    """Where the parts between the commas of the outermost list or object stand."""
    begin = len(document) - len(document.lstrip())
    if document[begin : begin + 1] != opening:
        raise StructureError(f"it does not begin with {opening.decode()}")
    depth, first, parts = 0, begin + 1, 0
    for token in _TOKEN.finditer(document):
        step = _DEPTHS.get(token[0], 0)
        depth += step
        ends = step < 0 and depth == 0
        if ends or (depth == 1 and token[0] == b","):
            if document[first : token.start()].strip():
                yield first, token.start()
                parts += 1
            elif parts or not ends:
                raise StructureError("something is missing between commas")
            first = token.end()
        if ends:
            if document[first:].strip():
                raise StructureError("something follows its end")
            return
    raise StructureError("it ends in the middle")
