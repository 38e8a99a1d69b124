"""A small SOQL: from text to a query whose names are checked and whose condition can be tested.

SELECT of fields, of fields of related rows, COUNT(), or COUNT, MIN and MAX of a field in the groups
of GROUP BY, whose date functions are in UTC; WHERE with AND, OR, NOT, brackets,
comparisons, LIKE, IN and NOT IN; ORDER BY with directions and nulls; LIMIT and OFFSET. As in the
real one, AND and OR do not mix without brackets.
"""

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.fakes.salesforce.refusal import SoqlError, no_column, no_relation, no_type
from tests.fakes.salesforce.row_tests import (
    Aggregate,
    Getter,
    Row,
    Test,
    equals,
    is_in,
    like,
    part_of,
)
from tests.fakes.salesforce.schema import ObjectType

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>'(?:[^'\\]|\\.)*')
      | (?P<datetime>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,3})?(?:Z|[+-]\d\d:?\d\d))
      | (?P<date>\d{4}-\d\d-\d\d)
      | (?P<number>[+-]?\d+(?:\.\d+)?)
      | (?P<word>[A-Za-z][A-Za-z0-9_.]*)
      | (?P<sign><=|>=|!=|<>|[=<>(),])
    )""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


#: Where each date function's part stands in the text of a time.
_DATE_PARTS = {"CALENDAR_YEAR": slice(0, 4), "CALENDAR_MONTH": slice(5, 7)}


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    column: int

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.text.upper() in words


@dataclass(frozen=True, slots=True)
class Order:
    path: tuple[str, ...]
    get: Getter
    descending: bool = False
    nulls_last: bool = False


@dataclass(slots=True)
class SoqlQuery:
    """A parsed query. `columns` is None for COUNT()."""

    text: str
    object: str
    columns: list[tuple[str, ...]] | None
    aggregates: list[Aggregate] = field(default_factory=list)
    groups: list[Getter] = field(default_factory=list)
    test: Test | None = None
    order: list[Order] = field(default_factory=list)
    limit: int | None = None
    offset: int = 0
    #: Lower bounds that every row meets, by field: where a sorted list may be entered.
    bounds: dict[str, Any] = field(default_factory=dict)


class Catalogue:
    """What a query may name. `hidden` are fields, as (object, field), that nobody may see."""

    def __init__(
        self,
        types: Mapping[str, ObjectType],
        find: Callable[[str, str], Row | None],
        hidden: set[tuple[str, str]],
    ) -> None:
        self._types = {name.lower(): each for name, each in types.items()}
        self._find = find
        self._hidden = hidden

    def type(self, name: str, soql: str, column: int) -> ObjectType:
        if name.lower() not in self._types:
            raise no_type(name, soql, column)
        return self._types[name.lower()]

    def resolve(
        self, of: ObjectType, path: str, soql: str, column: int
    ) -> tuple[tuple[str, ...], str, Getter]:
        """Return a field's path as it is spelt, its type, and how to read it."""
        first, _, rest = path.partition(".")
        if rest:
            relations = {name.lower(): name for name in of.relations}
            name = relations.get(first.lower())
            if name is None:
                raise no_relation(first, soql, column)
            key, target = of.relations[name]
            inner, kind, get = self.resolve(self.type(target, soql, column), rest, soql, column)
            find = self._find

            def through(row: Row) -> Any:
                other = find(target, row[key]) if row.get(key) else None
                return None if other is None else get(other)

            return (name, *inner), kind, through
        names = {each.lower(): each for each in of.fields}
        spelt = names.get(first.lower())
        if spelt is None or (of.name, spelt) in self._hidden:
            raise no_column(first, of.name, soql, column)
        return (spelt,), of.fields[spelt], lambda row: row.get(spelt)


def parse(soql: str, catalogue: Catalogue) -> SoqlQuery:
    """Parse a query.

    Raises:
        SoqlError: it is malformed, or names what is not there.
    """
    return _Parser(soql, catalogue).query()


class _Parser:
    def __init__(self, soql: str, catalogue: Catalogue) -> None:
        self._soql = soql
        self._catalogue = catalogue
        self._tokens = self._split(soql)
        self._place = 0
        self._type: ObjectType

    def _split(self, soql: str) -> list[Token]:
        tokens: list[Token] = []
        position = 0
        while soql[position:].strip():
            found = _TOKEN.match(soql, position)
            if found is None:
                column = position + len(soql[position:]) - len(soql[position:].lstrip())
                raise SoqlError(
                    "MALFORMED_QUERY", f"unexpected token: '{soql[column]}'", soql, column
                )
            kind = str(found.lastgroup)
            tokens.append(Token(kind, found[kind], found.start(kind)))
            position = found.end()
        return [*tokens, Token("end", "<EOF>", len(soql))]

    def query(self) -> SoqlQuery:
        self._word("SELECT")
        functions = self._functions()
        names = [] if functions else self._names()
        self._word("FROM")
        named = self._take("word")
        self._type = self._catalogue.type(named.text, self._soql, named.column)
        columns = None
        if names is not None:
            columns = [self._resolve(each)[0] for each in names]
        query = SoqlQuery(self._soql, self._type.name, columns)
        for function, of, alias in functions:
            query.aggregates.append(Aggregate(function, self._resolve(of)[2], alias))
        if self._next.is_word("WHERE"):
            self._place += 1
            query.test = self._condition(query.bounds)
        if functions and self._next.is_word("GROUP"):
            self._place += 1
            self._word("BY")
            query.groups = self._groups()
        if self._next.is_word("ORDER"):
            self._place += 1
            self._word("BY")
            query.order = self._order()
        for word in ("LIMIT", "OFFSET"):
            if self._next.is_word(word):
                self._place += 1
                setattr(query, word.lower(), int(self._take("number").text))
        if self._next.kind != "end":
            raise self._unexpected()
        return query

    @property
    def _next(self) -> Token:
        return self._tokens[self._place]

    def _functions(self) -> list[tuple[str, Token, str]]:
        """The functions of fields that are selected, with their aliases."""
        found: list[tuple[str, Token, str]] = []
        unnamed = itertools.count()
        ahead = self._tokens[self._place :]
        if not (ahead[0].is_word("COUNT", "MIN", "MAX") and ahead[1].text == "("):
            return found
        if ahead[2].text == ")":
            return found
        while True:
            function = self._take("word").text.upper()
            self._sign("(")
            of = self._take("word")
            self._sign(")")
            named = self._next.kind == "word" and not self._next.is_word("FROM")
            alias = self._take("word").text if named else f"expr{next(unnamed)}"
            found.append((function, of, alias))
            if self._next.text != ",":
                return found
            self._place += 1

    def _groups(self) -> list[Getter]:
        groups: list[Getter] = []
        while True:
            named = self._take("word")
            part = _DATE_PARTS.get(named.text.upper())
            if part is None:
                groups.append(self._resolve(named)[2])
            else:
                self._sign("(")
                groups.append(part_of(self._resolve(self._take("word"))[2], part))
                self._sign(")")
            if self._next.text != ",":
                return groups
            self._place += 1

    def _names(self) -> list[Token] | None:
        if self._next.is_word("COUNT") and self._tokens[self._place + 1].text == "(":
            self._place += 2
            self._sign(")")
            return None
        names = [self._take("word")]
        while self._next.text == ",":
            self._place += 1
            names.append(self._take("word"))
        seen = [each.text.lower() for each in names]
        for each in names:
            if seen.count(each.text.lower()) > 1:
                raise SoqlError("INVALID_FIELD", f"duplicate field selected: {each.text}")
        return names

    def _condition(self, bounds: dict[str, Any]) -> Test:
        tests = [self._simple(bounds)]
        word = self._next.text.upper() if self._next.is_word("AND", "OR") else ""
        while word and self._next.is_word("AND", "OR"):
            if not self._next.is_word(word):
                raise self._unexpected()
            self._place += 1
            tests.append(self._simple(bounds if word == "AND" else {}))
        if word == "OR":
            bounds.clear()
            return lambda row: any(test(row) for test in tests)
        return tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)

    def _simple(self, bounds: dict[str, Any]) -> Test:
        if self._next.text == "(":
            self._place += 1
            inner: dict[str, Any] = {}
            test = self._condition(inner)
            self._sign(")")
            for name, bound in inner.items():
                bounds.setdefault(name, bound)
            return test
        if self._next.is_word("NOT"):
            self._place += 1
            negated = self._simple({})
            return lambda row: not negated(row)
        return self._comparison(bounds)

    def _comparison(self, bounds: dict[str, Any]) -> Test:
        named = self._take("word")
        path, kind, get = self._resolve(named)
        token = self._tokens[self._place]
        self._place += 1
        if token.is_word("LIKE"):
            return like(get, str(self._value(kind, named)))
        if token.is_word("IN"):
            return is_in(get, self._values(kind, named), kind)
        if token.is_word("NOT") and self._next.is_word("IN"):
            self._place += 1
            among = is_in(get, self._values(kind, named), kind)
            return lambda row: not among(row)
        if token.kind != "sign" or token.text in "(),":
            self._place -= 1
            raise self._unexpected()
        value = self._value(kind, named)
        if token.text in {"=", "!=", "<>"}:
            return equals(get, value, kind, negated=token.text != "=")
        if token.text in {">", ">="} and len(path) == 1 and value is not None:
            bounds.setdefault(path[0], value)
        compare = _COMPARISONS[token.text]
        return lambda row: (
            (found := get(row)) is not None and value is not None and compare(found, value)
        )

    def _values(self, kind: str, named: Token) -> list[Any]:
        self._sign("(")
        values = [self._value(kind, named)]
        while self._next.text == ",":
            self._place += 1
            values.append(self._value(kind, named))
        self._sign(")")
        return values

    def _value(self, kind: str, named: Token) -> Any:
        token = self._next
        if token.kind not in {"string", "datetime", "date", "number"} and not token.is_word(
            "TRUE", "FALSE", "NULL"
        ):
            raise self._unexpected()
        self._place += 1
        quoted = token.kind == "string"
        if token.is_word("NULL"):
            return None
        if quoted != (kind in {"string", "id", "any"}) or (
            (kind == "datetime") != (token.kind == "datetime")
        ):
            wanted = {"datetime": "dateTime", "id": "ID"}.get(kind, kind)
            rule = "should not" if quoted else "should"
            raise SoqlError(
                "INVALID_FIELD",
                f"value of filter criterion for field '{named.text}' must be of type {wanted} and "
                f"{rule} be enclosed in quotes",
                self._soql,
                named.column,
            )
        if token.is_word("TRUE", "FALSE"):
            return token.text.upper() == "TRUE"
        if quoted:
            return re.sub(r"\\(.)", lambda each: _ESCAPES.get(each[1], each[1]), token.text[1:-1])
        if token.kind == "datetime":
            return stamp_of(datetime.fromisoformat(token.text))
        return float(token.text) if token.kind == "number" else token.text

    def _order(self) -> list[Order]:
        orders: list[Order] = []
        while True:
            named = self._take("word")
            path, _, get = self._resolve(named)
            descending = self._next.is_word("DESC")
            if self._next.is_word("ASC", "DESC"):
                self._place += 1
            nulls_last = False
            if self._next.is_word("NULLS"):
                self._place += 1
                nulls_last = self._take("word").text.upper() == "LAST"
            orders.append(Order(path, get, descending, nulls_last))
            if self._next.text != ",":
                return orders
            self._place += 1

    def _resolve(self, named: Token) -> tuple[tuple[str, ...], str, Getter]:
        return self._catalogue.resolve(self._type, named.text, self._soql, named.column)

    def _take(self, kind: str) -> Token:
        token = self._next
        if token.kind != kind:
            raise self._unexpected()
        self._place += 1
        return token

    def _word(self, word: str) -> None:
        if not self._next.is_word(word):
            raise self._unexpected()
        self._place += 1

    def _sign(self, sign: str) -> None:
        if self._next.text != sign:
            raise self._unexpected()
        self._place += 1

    def _unexpected(self) -> SoqlError:
        token = self._next
        return SoqlError(
            "MALFORMED_QUERY", f"unexpected token: '{token.text}'", self._soql, token.column
        )


def stamp_of(timestamp: datetime) -> str:
    """Return a time as rows hold it: such texts sort by time."""
    utc = timestamp.astimezone(UTC)
    return utc.strftime("%Y-%m-%dT%H:%M:%S.") + f"{utc.microsecond // 1000:03d}+0000"
