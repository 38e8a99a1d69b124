"""Splits the lists of a JSON document into the bytes of their elements, whatever is in these.

A decoder fails as a whole at one number beyond its range, one nesting too deep, one byte that is
no UTF-8. The structure alone can be followed without any of that: by brackets, commas and texts.
"""

import re
from dataclasses import dataclass, replace

#: A text, or a character of the structure.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{},:]', re.DOTALL)
_DEPTHS = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}


class StructureError(ValueError):
    """The document's brackets do not match, or it ends in the middle."""


@dataclass(frozen=True, slots=True)
class List:
    """Where a list stands in its document, brackets included, and its elements' bytes.

    `name` is that of the member of the outermost object which it is; None for the document itself.
    """

    name: str | None
    start: int
    end: int
    elements: list[bytes]


def outermost_lists(document: bytes) -> list[List]:
    """Return the lists that the document's outermost object has as members, or that it is.

    Follows the structure alone: an element need not be valid JSON as long as its brackets and
    texts end. Needs memory for the elements, and none for their depth.

    Raises:
        StructureError: it does not end where its brackets do.
    """
    splitter = _Splitter(document)
    for found in _TOKEN.finditer(document):
        splitter.take(found[0], found.start())
    if splitter.depth != 0 or not document.strip():
        raise StructureError("it ends in the middle")
    return splitter.lists


class _Splitter:
    """Goes through a document's texts and brackets, in order."""

    def __init__(self, document: bytes) -> None:
        self.lists: list[List] = []
        self.depth = 0
        self._document = document
        # How deep the elements lie: within the document itself, or within its members.
        self._inner = 1 if document.lstrip()[:1] == b"[" else 2
        self._text = b""
        self._list: List | None = None
        self._first = 0  # where the present element begins

    def take(self, token: bytes, position: int) -> None:
        step = _DEPTHS.get(token, 0)
        if step > 0:
            self.depth += 1
            if token == b"[" and self.depth == self._inner:
                name = self._text[1:-1].decode("utf-8", "replace") if self._inner > 1 else None
                self._list = List(name, position, position, [])
                self._first = position + 1
        elif step < 0:
            if self.depth == self._inner and self._list is not None:
                self._close(self._list, position)
            self.depth -= 1
            if self.depth == 0 and self._document[position + 1 :].strip():
                raise StructureError("something follows its end")
        elif token == b",":
            if self.depth == self._inner and self._list is not None:
                self._add(self._list, position)
        elif self.depth == 1 and token != b":":
            self._text = token

    def _add(self, found: List, end: int) -> None:
        element = self._document[self._first : end].strip()
        if not element:
            raise StructureError("an element of a list is missing")
        found.elements.append(element)
        self._first = end + 1

    def _close(self, found: List, position: int) -> None:
        if found.elements or self._document[self._first : position].strip():
            self._add(found, position)
        self.lists.append(replace(found, end=position + 1))
        self._list = None
