"""The Jira Query Language, as far as the fake goes: from text to a tree."""

import re
from dataclasses import dataclass


class JqlError(ValueError):
    """A query cannot be read or run; the text is what Jira would answer."""


@dataclass(frozen=True, slots=True)
class Value:
    """One operand. An unquoted EMPTY or NULL is empty; `name()` is a function."""

    text: str
    quoted: bool = False
    function: bool = False

    @property
    def empty(self) -> bool:
        return not self.quoted and self.text.upper() in {"EMPTY", "NULL"}


@dataclass(frozen=True, slots=True)
class Clause:
    """A comparison; the operator is lower case, the field's alias resolved."""

    field: str
    operator: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Not:
    inner: "Node"


@dataclass(frozen=True, slots=True)
class Both:
    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Either:
    parts: tuple["Node", ...]


type Node = Clause | Not | Both | Either


@dataclass(frozen=True, slots=True)
class Query:
    """A whole query; `where` is None when nothing restricts it."""

    where: Node | None
    order: tuple[tuple[str, bool], ...]
    """Fields to order by, each with whether it is descending."""


_ALIASES = {
    "issuekey": "key",
    "issue": "key",
    "createddate": "created",
    "updateddate": "updated",
    "type": "issuetype",
}
_LISTED = {"=", "!=", "in", "not in", "is", "is not"}
_DATED = {"=", "!=", "<", "<=", ">", ">=", "in", "not in", "is", "is not"}
_TEXTUAL = {"~", "!~", "is", "is not"}
_OPERATORS: dict[str, set[str]] = {
    "project": _LISTED,
    "key": _DATED,
    "id": _DATED,
    "status": _LISTED,
    "statuscategory": _LISTED,
    "assignee": _LISTED,
    "reporter": _LISTED,
    "creator": _LISTED,
    "labels": _LISTED,
    "issuetype": _LISTED,
    "priority": _LISTED,
    "resolution": _LISTED,
    "created": _DATED,
    "updated": _DATED,
    "summary": _TEXTUAL,
    "text": _TEXTUAL,
}

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<mark>!=|!~|<=|>=|&&|\|\||[=<>~!(),])
      | (?P<word>[^\s"'=!<>~(),&|]+)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    at: int
    quoted: bool = False

    @property
    def word(self) -> str:
        """The token for comparison with keywords; a quoted one never is a keyword."""
        return "" if self.quoted else self.text.lower()


def parse(text: str) -> Query:
    """Read a query.

    Raises:
        JqlError: with Jira's message for what is wrong.
    """
    return _Parser(text).query()


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._text = text

    def query(self) -> Query:
        where = None
        if self._tokens and self._word() != "order":
            where = self._either()
        order: list[tuple[str, bool]] = []
        if self._word() == "order":
            self._next()
            if self._next().word != "by":
                raise self._error("Expecting 'by'")
            order.append(self._sorting())
            while self._word() == ",":
                self._next()
                order.append(self._sorting())
        if self._at < len(self._tokens):
            raise self._error("Expecting either 'OR' or 'AND'")
        return Query(where, tuple(order))

    def _sorting(self) -> tuple[str, bool]:
        name = self._field(self._next())
        direction = self._word()
        if direction in {"asc", "desc"}:
            self._next()
        return name, direction == "desc"

    def _either(self) -> Node:
        parts = [self._both()]
        while self._word() in {"or", "||"}:
            self._next()
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _both(self) -> Node:
        parts = [self._term()]
        while self._word() in {"and", "&&"}:
            self._next()
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _term(self) -> Node:
        word = self._word()
        if word in {"not", "!"}:
            self._next()
            return Not(self._term())
        if word == "(":
            self._next()
            inner = self._either()
            self._expect(")")
            return inner
        return self._clause()

    def _clause(self) -> Clause:
        name = self._field(self._next())
        operator = self._operator()
        if operator not in _OPERATORS[name]:
            raise JqlError(f"The operator '{operator}' is not supported by the '{name}' field.")
        if operator in {"in", "not in"}:
            self._expect("(")
            values = [self._value()]
            while self._word() == ",":
                self._next()
                values.append(self._value())
            self._expect(")")
        else:
            values = [self._value()]
        if operator in {"is", "is not"} and not values[0].empty:
            raise JqlError(
                f"The operator '{operator}' may only be used with EMPTY or NULL; "
                f"'{values[0].text}' is neither."
            )
        return Clause(name, operator, tuple(values))

    def _field(self, token: _Token) -> str:
        name = token.text.lower()
        name = _ALIASES.get(name, name)
        if name not in _OPERATORS:
            raise JqlError(
                f"Field '{token.text}' does not exist or you do not have permission to view it."
            )
        return name

    def _operator(self) -> str:
        token = self._next()
        word = token.word
        if word == "not" and self._word() == "in":
            self._next()
            return "not in"
        if word == "is":
            if self._word() == "not":
                self._next()
                return "is not"
            return "is"
        if word in {"=", "!=", "<", "<=", ">", ">=", "~", "!~", "in"}:
            return word
        raise self._error(
            f"Expecting operator but got '{token.text}'. The valid operators are '=', '!=', '<', "
            "'>', '<=', '>=', '~', '!~', 'IN', 'NOT IN', 'IS' and 'IS NOT'.",
            token,
        )

    def _value(self) -> Value:
        token = self._next()
        if not token.quoted and token.word in {"(", ")", ",", "=", "and", "or", "order"}:
            raise self._error(f"Expecting a value but got '{token.text}'", token)
        if not token.quoted and self._word() == "(":
            self._next()
            self._expect(")")
            return Value(token.text, function=True)
        return Value(token.text, quoted=token.quoted)

    def _word(self) -> str:
        return self._tokens[self._at].word if self._at < len(self._tokens) else ""

    def _next(self) -> _Token:
        if self._at >= len(self._tokens):
            raise self._error("The query ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, mark: str) -> None:
        if self._word() != mark:
            got = self._tokens[self._at].text if self._at < len(self._tokens) else "the end"
            raise self._error(f"Expecting '{mark}' but got '{got}'")
        self._next()

    def _error(self, what: str, token: _Token | None = None) -> JqlError:
        if token is None and self._at < len(self._tokens):
            token = self._tokens[self._at]
        at = token.at if token else len(self._text)
        line = self._text.count("\n", 0, at) + 1
        column = at - (self._text.rfind("\n", 0, at) + 1) + 1
        return JqlError(f"Error in the JQL Query: {what}. (line {line}, character {column})")


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise JqlError(
                "Error in the JQL Query: The character "
                f"'{text[at:].lstrip()[:1]}' is a reserved JQL character. You must enclose it in "
                f"a string or use the escape '\\u{ord(text[at:].lstrip()[0]):04x}' instead. "
                f"(line 1, character {at + 1})"
            )
        start = found.end() - len(found[0].lstrip())
        quoted = found["quoted"]
        if quoted is not None:
            body = re.sub(r"\\(.)", r"\1", quoted[1:-1])
            tokens.append(_Token(body, start, quoted=True))
        else:
            tokens.append(_Token(found["mark"] or found["word"], start))
        at = found.end()
    return tokens
