"""Templates: texts with `{{ expression }}` holes, split once; what fills a hole is never parsed."""

import io
import json
import re
import tokenize
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from pydantic import JsonValue

from temporaletl.worker.pipelines.expressions.grammar import (
    Expression,
    ExpressionError,
    Fault,
    parse_expression,
)
from temporaletl.worker.pipelines.expressions.language import MOST_CHARACTERS

_OPEN, _CLOSE = "{{", "}}"
#: What begins a part of an expression in which }} may stand.
_MAY_HOLD_ENDS = re.compile(r"""["'{#]""")
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
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
    lines = _Lines(text)
    rest = 0
    lost = False  # behind a hole whose end is unclear; to look for that of each would take too long
    while (start := text.find(_OPEN, rest)) >= 0:
        if start > rest:
            parts.append(text[rest:start])
        inside = start + len(_OPEN)
        end, is_clear = _end_of_hole(text, inside, first=lost)
        lost = not is_clear
        if end < 0:
            faults.append(lines.placed(Fault(1, 1, "{{ is not closed by }}"), start))
            rest = len(text)
            break
        hole = text[inside:end]
        rest = end + len(_CLOSE)
        try:
            part = _parse_hole(hole, nodes, names, secrets=secrets)
            if isinstance(part, SecretHole):
                at = lines.placed(Fault(1, 1, ""), start)
                part = SecretHole(part.name, at.line, at.column)
            parts.append(part)
        except ExpressionError as error:
            faults += [lines.placed(fault, inside) for fault in error.faults]
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
        raise ExpressionError([_Lines(hole).placed(Fault(1, 1, message), called.start())])
    return parse_expression(hole, nodes, names=names)


def _end_of_hole(text: str, inside: int, *, first: bool) -> tuple[int, bool]:
    """The }} that ends an expression, and whether it does: else it is the first of all.

    An expression may hold others, in texts and objects: its tokens tell them apart, in one go, as
    far as it may be long. With `first` nobody looks at them.
    """
    nearest = text.find(_CLOSE, inside)
    if first or nearest < 0:
        return nearest, False
    if not _MAY_HOLD_ENDS.search(text, inside, nearest):
        return nearest, True
    lines = io.StringIO("{" + text[inside : inside + MOST_CHARACTERS])
    depth, starts = 0, [inside - 1]

    def read_line() -> str:
        line = lines.readline()
        starts.append(starts[-1] + len(line))
        return line

    try:
        for token in tokenize.generate_tokens(read_line):
            if token.type == tokenize.COMMENT and depth == 1:
                # A comment goes to the end of its line, or of its hole.
                in_comment = token.string.find(_CLOSE)
                if in_comment >= 0:
                    return starts[token.start[0] - 1] + token.start[1] + in_comment, True
            if token.type != tokenize.OP:
                continue
            depth += (token.string in _OPENING) - (token.string in _CLOSING)
            if depth == 0:
                end = starts[token.start[0] - 1] + token.start[1]
                return (end, True) if text.startswith(_CLOSE, end) else (nearest, False)
    except (SyntaxError, ValueError, tokenize.TokenError):
        pass  # parsing it says what is wrong
    return nearest, False


class _Lines:
    """Where the lines of a text begin."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]

    def placed(self, fault: Fault, offset: int) -> Fault:
        """A fault of a part of the text that begins at `offset`, in the whole of it."""
        before = bisect_right(self._starts, offset) - 1
        in_line = offset - self._starts[before]
        column = fault.column + in_line * (fault.line == 1)
        return Fault(before + fault.line, column, fault.message)
