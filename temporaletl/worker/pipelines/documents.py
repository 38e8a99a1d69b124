"""Documents of pipelines: JSON or YAML text, read without surprises, with the line of each place.

YAML is read by its core schema: `yes` and `2024-01-01` are texts. Aliases are followed, to a bound;
a key that stands twice is a fault.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml
from pydantic import JsonValue

from temporaletl.worker.pipelines.faults import DefinitionError, DefinitionFault

MOST_CHARACTERS = 1_000_000
#: Values that a document may have once its aliases are followed.
MOST_VALUES = 100_000
MOST_DEPTH = 50

_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, JsonValue] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True, slots=True)
class Document:
    """The value of a document; `lines` has the line of each place, from 1, where it is YAML."""

    value: JsonValue
    lines: Mapping[str, int] = field(default_factory=dict)

    def line_of(self, path: str) -> int | None:
        """The line of a place, or of the nearest one around it."""
        while path and path not in self.lines:
            path = re.sub(r"(\.[^.\[]*|\[\d+\])$", "", path) if re.search(r"[.\[]", path) else ""
        return self.lines.get(path)


def read_json(text: str) -> Document:
    """Read JSON.

    Raises:
        DefinitionError: it is none, or has a key twice.
    """
    try:
        return Document(json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant))
    except json.JSONDecodeError as error:
        message = f"not JSON: {error.msg}"
        fault = DefinitionFault("document", message, line=error.lineno, column=error.colno)
        raise DefinitionError([fault]) from None
    except (ValueError, RecursionError) as error:
        raise DefinitionError([DefinitionFault("document", f"not JSON: {error}")]) from None


def read_yaml(text: str) -> Document:
    """Read YAML, of which JSON is a part.

    Raises:
        DefinitionError: it is none, has a key twice, or more values than `MOST_VALUES`.
    """
    if len(text) > MOST_CHARACTERS:
        message = f"{len(text):,} characters are more than {MOST_CHARACTERS:,}"
        raise DefinitionError([DefinitionFault("document", message)])
    try:
        root = yaml.compose(text, Loader=yaml.CBaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        message = f"not YAML: {error.problem or error.context}"
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        raise DefinitionError(
            [DefinitionFault("document", message, line=line, column=column)]
        ) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise DefinitionError([DefinitionFault("document", f"not YAML: {error}")]) from None
    reader = _YamlReader()
    value = None if root is None else reader.read(root, "", 0)
    return Document(value, reader.lines)


class _YamlReader:
    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self._values = 0

    def read(self, node: yaml.Node, path: str, depth: int) -> JsonValue:
        self._values += 1
        self.lines[path] = node.start_mark.line + 1
        if self._values > MOST_VALUES:
            raise self._fault(node, f"more than {MOST_VALUES:,} values: aliases multiply them")
        if depth > MOST_DEPTH:
            raise self._fault(node, f"nested more than {MOST_DEPTH} levels deep")
        match node:
            case yaml.ScalarNode():
                return self._scalar(node)
            case yaml.SequenceNode():
                return [
                    self.read(one, f"{path}[{index}]", depth + 1)
                    for index, one in enumerate(node.value)
                ]
            case yaml.MappingNode():
                return self._mapping(node, path, depth)
        raise self._fault(node, f"{node.tag} is nothing that a definition holds")

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> JsonValue:
        found: dict[str, JsonValue] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                raise self._fault(key, "a key is a text")
            if key.value in found:
                raise self._fault(key, f"the key {key.value} stands twice")
            place = f"{path}.{key.value}".removeprefix(".")
            found[key.value] = self.read(value, place, depth + 1)
            self.lines[place] = key.start_mark.line + 1
        return found

    def _scalar(self, node: yaml.ScalarNode) -> JsonValue:
        text: str = node.value
        if node.style:  # quoted, or a block
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            try:
                return int(text)
            except ValueError:
                raise self._fault(node, f"a number of {len(text):,} digits is too long") from None
        return float(text) if _NUMBER.fullmatch(text) else text

    @staticmethod
    def _fault(node: yaml.Node, message: str) -> DefinitionError:
        mark = node.start_mark
        fault = DefinitionFault("document", message, line=mark.line + 1, column=mark.column + 1)
        return DefinitionError([fault])


def _distinct(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key} stands twice")
        found[key] = value
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
