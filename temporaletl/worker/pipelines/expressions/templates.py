"""Templates: texts with `{{ expression }}` holes, split once; what fills a hole is never parsed."""

import ast
import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from pydantic import JsonValue

from temporaletl.worker.pipelines.expressions.grammar import (
    Expression,
    ExpressionError,
    Fault,
    parse_expression,
)

_OPEN, _CLOSE = "{{", "}}"
_SECRET = re.compile(r"""\s*secret\(\s*(?:"([\w.-]+)"|'([\w.-]+)')\s*\)\s*""")
_LOOKS_LIKE_SECRET = re.compile(r"\bsecret\s*\(")


@dataclass(frozen=True, slots=True)
class SecretHole:
    """A hole that a secret fills, outside of the sandbox: `{{ secret("name") }}`, and its place."""

    name: str
    line: int = field(default=1, compare=False)
    column: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Template:
    """A text with holes: its parts are literal texts, expressions and secrets."""

    parts: tuple[str | Expression | SecretHole, ...]

    @property
    def expressions(self) -> tuple[Expression, ...]:
        return tuple(part for part in self.parts if isinstance(part, Expression))

    @property
    def secrets(self) -> frozenset[str]:
        return frozenset(part.name for part in self.parts if isinstance(part, SecretHole))

    def filled(
        self,
        values: Iterator[JsonValue],
        secret: Callable[[str], str],
        write: Callable[[JsonValue], str],
    ) -> JsonValue:
        """The text with its holes filled, in order: expressions by `values`, through `write`.

        A text that is one hole and nothing else is the value itself.
        """
        match self.parts:
            case ():
                return ""
            case (Expression(),):
                return next(values)
        return "".join(self._written(part, values, secret, write) for part in self.parts)

    @staticmethod
    def _written(
        part: str | Expression | SecretHole,
        values: Iterator[JsonValue],
        secret: Callable[[str], str],
        write: Callable[[JsonValue], str],
    ) -> str:
        match part:
            case str():
                return part
            case SecretHole(name=name):
                return secret(name)
            case _:
                return write(next(values))


def parse_template(
    text: str,
    nodes: Collection[str] = (),
    *,
    names: Collection[str] = (),
    secrets: bool = False,
) -> Template:
    """Split a text at its holes and check each; `secrets` tells whether it may hold some.

        template = parse_template("https://api.test/{{ inputs.id }}")
        assert [part for part in template.parts if isinstance(part, str)] == ["https://api.test/"]

    Raises:
        ExpressionError: with every fault of every hole, placed in the whole text.
    """
    parts: list[str | Expression | SecretHole] = []
    faults: list[Fault] = []
    rest = 0
    while (start := text.find(_OPEN, rest)) >= 0:
        if start > rest:
            parts.append(text[rest:start])
        inside = start + len(_OPEN)
        end = _end_of_hole(text, inside)
        if end is None:
            faults.append(_placed(Fault(1, 1, "{{ is not closed by }}"), text, start))
            rest = len(text)
            break
        hole = text[inside:end]
        rest = end + len(_CLOSE)
        try:
            part = _parse_hole(hole, nodes, names, secrets=secrets)
            if isinstance(part, SecretHole):
                at = _placed(Fault(1, 1, ""), text, start)
                part = SecretHole(part.name, at.line, at.column)
            parts.append(part)
        except ExpressionError as error:
            faults += [_placed(fault, text, inside) for fault in error.faults]
    if faults:
        raise ExpressionError(faults)
    if rest < len(text):
        parts.append(text[rest:])
    return Template(tuple(parts))


def as_text(value: JsonValue) -> str:
    """A value within a text: texts as they are, nothing for null, everything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parse_hole(
    hole: str, nodes: Collection[str], names: Collection[str], *, secrets: bool
) -> Expression | SecretHole:
    found = _SECRET.fullmatch(hole)
    if found is not None and secrets:
        return SecretHole(found[1] or found[2])
    called = _LOOKS_LIKE_SECRET.search(hole)
    if called is not None:
        message = (
            'a secret fills a hole alone: {{ secret("name") }}'
            if secrets
            else "secrets may stand in headers, authentication and parameters alone"
        )
        raise ExpressionError([_placed(Fault(1, 1, message), hole, called.start())])
    return parse_expression(hole, nodes, names=names)


def _end_of_hole(text: str, inside: int) -> int | None:
    """The first }} that ends an expression, else the first of all: an expression may hold some."""
    first = end = text.find(_CLOSE, inside)
    if first < 0:
        return None
    while end >= 0:
        try:
            ast.parse(f"({text[inside:end]}\n)", mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            end = text.find(_CLOSE, end + 1)
        else:
            return end
    return first


def _placed(fault: Fault, text: str, offset: int) -> Fault:
    """A fault of a part of the text that begins at `offset`, in the whole of it."""
    before = text[:offset]
    line = before.count("\n") + fault.line
    column = fault.column + len(before.rpartition("\n")[2]) * (fault.line == 1)
    return Fault(line, column, fault.message)
