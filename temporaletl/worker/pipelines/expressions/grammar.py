"""Grammar of expressions: what they may contain, checked in full before anything is evaluated.

An expression is one expression of Python without whatever could reach beyond its values: no
imports, no private names, no unknown functions or methods. `a.b` reads the member `b` of a mapping.
"""

import ast
import difflib
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unicodedata import normalize

from temporaletl.worker.pipelines.expressions.language import (
    FUNCTIONS,
    KEYED,
    METHODS,
    MOST_CHARACTERS,
    MOST_DEPTH,
    ROOTS,
)


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """What is wrong in an expression, with its place: lines and columns count from 1."""

    line: int
    column: int
    message: str

    def __str__(self) -> str:
        line = f"line {self.line} " if self.line > 1 else ""
        return f"{line}column {self.column}: {self.message}"


class ExpressionError(ValueError):
    """An expression that is not allowed; `faults` are all that are wrong with it."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults))
        super().__init__("; ".join(map(str, self.faults)))


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression: as written, as the engine gets it, and what it reads.

    `nodes` are the ids of the nodes whose results it reads; `roots` are the other names.
    """

    text: str
    code: str
    nodes: frozenset[str]
    roots: frozenset[str]


def parse_expression(
    text: str, nodes: Collection[str] = (), *, names: Collection[str] = ()
) -> Expression:
    """Check an expression that may read the results of `nodes`, by id, and `names` besides.

        expression = parse_expression("fetch.status == 200 and len(inputs.items) > 0", {"fetch"})
        assert expression.nodes == {"fetch"}

    Raises:
        ExpressionError: with every fault, and its place.
    """
    source = _Source(text.replace("\r\n", "\n").replace("\r", "\n"))
    checker = _Checker(source, frozenset(nodes), frozenset({*ROOTS, *names}))
    tree = source.parse()
    checker.check(tree)
    if isinstance(tree, ast.GeneratorExp):
        checker.refuse(tree, "a generator is no value: put it in [ ]")
    if checker.faults:
        raise ExpressionError(checker.faults)
    return Expression(text, checker.code(), frozenset(checker.read), frozenset(checker.roots))


class _Source:
    """The text in parentheses, so that it may go over several lines; places in it as written."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.lines = f"({text}\n)".encode().split(b"\n")

    def parse(self) -> ast.expr:
        if len(self._text) > MOST_CHARACTERS:
            message = f"longer than {MOST_CHARACTERS:,} characters: put it in parts, node by node"
            raise ExpressionError([Fault(1, 1, message)])
        if not self._text.strip():
            raise ExpressionError([Fault(1, 1, "no expression is here")])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                tree = ast.parse("(" + self._text + "\n)", mode="eval").body
        except SyntaxError as error:
            raise ExpressionError([self._fault_of(error)]) from None
        except (RecursionError, MemoryError):
            raise ExpressionError([Fault(1, 1, "nested too deeply")]) from None
        except ValueError as error:  # a NUL, or a surrogate
            raise ExpressionError([Fault(1, 1, str(error))]) from None
        parenthesised = isinstance(tree, ast.Tuple | ast.GeneratorExp)  # the ( is a part of it
        if (tree.lineno, tree.col_offset) == (1, 0) and not parenthesised:
            # It closed the parenthesis that was put around it.
            raise ExpressionError([Fault(1, 1, "a ) closes nothing")])
        return tree

    def place(self, line: int, byte: int) -> tuple[int, int]:
        before = self.lines[line - 1][:byte].decode(errors="replace")
        return line, max(1, len(before) + (line > 1))

    def _fault_of(self, error: SyntaxError) -> Fault:
        message = "not an expression of Python: " + error.msg.rstrip(".")
        line, column = error.lineno or 1, error.offset or 1
        last = self._text.count("\n") + 1
        if line > last:
            line, column = last, len(self._text.rpartition("\n")[2]) + 1 + (last == 1)
        return Fault(line, max(1, column - (line == 1)), message)


@dataclass(slots=True)
class _Checker:
    source: _Source
    nodes: frozenset[str]
    names: frozenset[str]
    faults: list[Fault] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    roots: set[str] = field(default_factory=set)
    _edits: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    _bound: list[frozenset[str]] = field(default_factory=list)
    _depth: int = 0

    def check(self, node: ast.AST) -> None:
        if self._depth == MOST_DEPTH:
            self.refuse(node, f"nested more than {MOST_DEPTH} levels deep")
            raise ExpressionError(self.faults[-1:])
        self._depth += 1
        match node:
            case ast.Name():
                self._name(node)
            case ast.Attribute():
                self._attribute(node)
            case ast.Subscript():
                self._subscript(node)
            case ast.Call():
                self._call(node)
            case ast.Constant():
                self._constant(node)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                self._comprehension(node)
            case _ if isinstance(node, _PLAIN):
                self._check_all(ast.iter_child_nodes(node))
            case _:
                self.refuse(node, f"{_named(node)} cannot be used in an expression")
        self._depth -= 1

    def code(self) -> str:
        """The text with each `.member` as a subscript."""
        lines = [bytearray(line) for line in self.source.lines]
        for line, start, end, text in sorted(self._edits, reverse=True):
            lines[line - 1][start:end] = text
        return b"\n".join(lines).decode()

    def _check_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.check(node)

    def refuse(self, node: ast.AST, message: str) -> None:
        line, byte = getattr(node, "lineno", 1), getattr(node, "col_offset", 1)
        self.faults.append(Fault(*self.source.place(line, byte), message))

    def _refuse_end(self, node: ast.expr, name: str, message: str) -> None:
        """Refuse what stands last in a node: the member or the method that it names."""
        byte = (node.end_col_offset or 0) - len(name.encode())
        self.faults.append(Fault(*self.source.place(node.end_lineno or 1, byte), message))

    # Names

    def _name(self, node: ast.Name) -> None:
        name = node.id
        if any(name in bound for bound in self._bound):
            return
        if name == "nodes":
            self.refuse(node, 'read a node by its id, as in nodes["fetch-1"]')
        elif name in self.names:
            self.roots.add(name)
        elif name not in FUNCTIONS and (called := self._called(name)) is not None:
            self.read.add(called)
            self._edit(node, node.col_offset, f'nodes["{called}"]')
        elif name.startswith("_"):
            self.refuse(node, f"{name}: names do not begin with _")
        elif name in FUNCTIONS:
            self.refuse(node, f"{name} is a function: call it")
        else:
            self.refuse(node, self._unknown(name))

    def _called(self, name: str) -> str | None:
        """The node of a name, in which Python spells each letter in one way: its id may not."""
        if name in self.nodes:
            return name
        return next((one for one in self.nodes if normalize("NFKC", one) == name), None)

    def _unknown(self, name: str) -> str:
        before = ", ".join(sorted(self.nodes)) or "none"
        near = difflib.get_close_matches(name, [*self.nodes, *self.names], n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        others = ", ".join(sorted(self.names))
        return f"{name} is not known here{meant}; nodes before this one: {before}; also: {others}"

    def _attribute(self, node: ast.Attribute) -> None:
        self.check(node.value)
        if node.attr.startswith("_"):
            self._refuse_end(node, node.attr, f"{node.attr}: names do not begin with _")
        start, end = node.value.end_col_offset or 0, node.end_col_offset or 0
        if node.value.end_lineno is None or node.value.end_lineno != node.end_lineno:
            self._refuse_end(node, node.attr, f".{node.attr} must stand on the line of its value")
            return
        value = self.source.lines[node.value.end_lineno - 1][start:end]
        start += value.index(b".")  # behind the parentheses around the value
        self._edit(node, start, f'["{node.attr}"]')

    def _edit(self, node: ast.expr, start: int, text: str) -> None:
        """Write `text` in place of a node's last line from `start` on."""
        edit = (node.end_lineno or 1, start, node.end_col_offset or start, text.encode())
        self._edits.append(edit)

    def _subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.value, ast.Name) and node.value.id == "nodes" and not self._is_bound():
            self._node_by_id(node.slice)
            return
        self._check_all((node.value, node.slice))

    def _is_bound(self) -> bool:
        return any("nodes" in bound for bound in self._bound)

    def _node_by_id(self, key: ast.expr) -> None:
        if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
            self.refuse(key, 'the id of a node is written out, as in nodes["fetch-1"]')
        elif key.value not in self.nodes:
            self.refuse(key, self._unknown(key.value))
        else:
            self.read.add(key.value)

    # Calls

    def _call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute):
            self._method(node.func)
        elif not isinstance(node.func, ast.Name):
            self.refuse(node.func, "only functions and methods can be called")
        elif node.func.id not in FUNCTIONS:
            listed = ", ".join(sorted(FUNCTIONS))
            self.refuse(node.func, f"{node.func.id} is no function here; there are {listed}")
        self._check_all(node.args)
        for keyword in node.keywords:
            self._keyword(node, keyword)

    def _method(self, method: ast.Attribute) -> None:
        self.check(method.value)
        if method.attr not in METHODS:
            listed = ", ".join(sorted(METHODS))
            self._refuse_end(
                method, method.attr, f".{method.attr}() is no method here; there are {listed}"
            )

    def _keyword(self, call: ast.Call, keyword: ast.keyword) -> None:
        keyed = isinstance(call.func, ast.Name) and call.func.id in KEYED and keyword.arg == "key"
        if not (keyed and isinstance(keyword.value, ast.Lambda)):
            self.check(keyword.value)
            return
        arguments = keyword.value.args
        plain = [one.arg for one in arguments.args]
        others = (arguments.posonlyargs, arguments.kwonlyargs, arguments.defaults)
        if len(plain) != 1 or any(others) or arguments.vararg or arguments.kwarg:
            self.refuse(keyword.value, "a key is a lambda of one argument: lambda row: row.name")
            return
        self._bind(keyword.value, plain)
        with self._binding(plain):
            self.check(keyword.value.body)

    # Comprehensions

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> None:
        depth = len(self._bound)
        for clause in node.generators:
            if clause.is_async:
                self.refuse(node, "async for cannot be used in an expression")
            self.check(clause.iter)
            targets = [*self._targets(clause.target)]
            self._bind(clause.target, targets)
            self._bound.append(frozenset(targets))
            self._check_all(clause.ifs)
        values = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
        self._check_all(values)
        del self._bound[depth:]

    def _targets(self, target: ast.expr) -> Iterator[str]:
        match target:
            case ast.Name(id=name):
                yield name
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    yield from self._targets(part)
            case _:
                self.refuse(target, "a comprehension assigns to names alone")

    def _bind(self, node: ast.AST, names: Iterable[str]) -> None:
        for name in names:
            if name.startswith("_") and name != "_":
                self.refuse(node, f"{name}: names do not begin with _")
            elif name in FUNCTIONS:
                self.refuse(node, f"{name} is a function: choose another name")

    @contextmanager
    def _binding(self, names: Iterable[str]) -> Iterator[None]:
        self._bound.append(frozenset(names))
        yield
        self._bound.pop()

    def _constant(self, node: ast.Constant) -> None:
        if not isinstance(node.value, str | int | float | bool | None):
            self.refuse(node, f"{type(node.value).__name__} values are none of JSON")


_PLAIN = (
    *(ast.BinOp, ast.BoolOp, ast.Compare, ast.Dict, ast.FormattedValue, ast.IfExp, ast.JoinedStr),
    *(ast.List, ast.Set, ast.Slice, ast.Starred, ast.Tuple, ast.UnaryOp),
    *(ast.expr_context, ast.operator, ast.boolop, ast.unaryop, ast.cmpop),
)

_NAMES = {
    ast.Lambda: "lambda (other than as the key of sorted, min and max)",
    ast.NamedExpr: ":=",
    ast.Await: "await",
    ast.Yield: "yield",
    ast.YieldFrom: "yield",
    ast.TemplateStr if hasattr(ast, "TemplateStr") else ast.Interactive: "a t-string",
}


def _named(node: ast.AST) -> str:
    return _NAMES.get(type(node), type(node).__name__)
