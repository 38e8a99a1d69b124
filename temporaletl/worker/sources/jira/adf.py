"""Atlassian's document format as plain text.

Whatever a node is called, no text within it is lost: an unknown one degrades to its content.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

Node = dict[str, Any]

#: Longer numbers are none of a list's items.
_MOST_DIGITS = 9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def text_of(body: Any) -> str:
    """Return a body as text: a document rendered, wiki text as it is, nothing as nothing."""
    if isinstance(body, str):
        return body
    if isinstance(body, dict):
        return _render(body).strip("\n")
    if isinstance(body, list):
        return _blocks(body).strip("\n")
    return "" if body is None else str(body)


def _render(node: Any) -> str:
    if not isinstance(node, dict):
        return node if isinstance(node, str) else ""
    kind = node.get("type")
    return _RENDERERS.get(kind, _unknown)(node) if isinstance(kind, str) else _unknown(node)


def _content(node: Node) -> list[Any]:
    content = node.get("content")
    return content if isinstance(content, list) else []


def _attribute(node: Node, *names: str) -> str:
    attributes = node.get("attrs")
    if isinstance(attributes, dict):
        for name in names:
            value = attributes.get(name)
            if value not in (None, ""):
                return str(value)
    return ""


def _inline(node: Node) -> str:
    content = node.get("content")
    return "".join([_render(part) for part in content]) if isinstance(content, list) else ""


def _blocks(nodes: list[Any]) -> str:
    """Join blocks line by line; inline nodes among them stay on one line."""
    lines: list[str] = []
    joining = False
    for node in nodes:
        kind = node.get("type") if isinstance(node, dict) else "text"
        text = _render(node)
        if kind in _INLINE:
            if joining:
                lines[-1] += text
            else:
                lines.append(text)
            joining = True
        else:
            joining = False
            if text:
                lines.append(text)
    return "\n".join(lines)


def _nested(node: Node) -> str:
    return _blocks(_content(node))


def _unknown(node: Node) -> str:
    return (
        _nested(node)
        or _attribute(node, "text", "title", "alt", "url")
        or str(node.get("text") or "")
    )


def _text(node: Node) -> str:
    text = str(node.get("text") or "")
    marks = node.get("marks")
    if not marks:
        return text
    for mark in marks:
        if isinstance(mark, dict) and mark.get("type") == "link":
            target = _attribute(mark, "href")
            if target and target != text:
                return f"{text} ({target})"
    return text


def _mention(node: Node) -> str:
    name = _attribute(node, "text", "id")
    return name if name.startswith("@") else f"@{name}"


def _date(node: Node) -> str:
    stamp = _attribute(node, "timestamp")
    try:
        return (_EPOCH + timedelta(milliseconds=int(stamp))).date().isoformat()
    except (ValueError, OverflowError):
        return stamp


def _indented(text: str, mark: str) -> str:
    return mark + text.replace("\n", "\n" + " " * len(mark))


def _bullets(node: Node) -> str:
    return "\n".join(_indented(_render(item), "- ") for item in _content(node))


def _numbers(node: Node) -> str:
    first = _attribute(node, "order")
    start = int(first) if first.isdecimal() and len(first) <= _MOST_DIGITS else 1
    return "\n".join(
        _indented(_render(item), f"{number}. ") for number, item in enumerate(_content(node), start)
    )


def _task(node: Node) -> str:
    done = _attribute(node, "state") == "DONE"
    return _indented(_nested(node), "[x] " if done else "[ ] ")


def _code(node: Node) -> str:
    return f"```{_attribute(node, 'language')}\n{_inline(node)}\n```"


def _quote(node: Node) -> str:
    return "> " + _nested(node).replace("\n", "\n> ")


def _row(node: Node) -> str:
    return " | ".join(_render(cell).replace("\n", " ") for cell in _content(node))


def _titled(node: Node) -> str:
    return "\n".join(filter(None, (_attribute(node, "title"), _nested(node))))


def _media(node: Node) -> str:
    name = _attribute(node, "alt", "__fileName", "url")
    return f"[{name}]" if name else ""


def _card(node: Node) -> str:
    """A link with what it leads to, which it names by `url` or describes in `data` (JSON-LD)."""
    attributes = node.get("attrs")
    data = attributes.get("data") if isinstance(attributes, dict) else None
    described = _attribute({"attrs": data}, "url", "@id", "name", "summary")
    return _attribute(node, "url") or described or _unknown(node)


_RENDERERS: dict[str, Callable[[Node], str]] = {
    "text": _text,
    "hardBreak": lambda _: "\n",
    "mention": _mention,
    "emoji": lambda node: _attribute(node, "text", "shortName"),
    "date": _date,
    "status": lambda node: _attribute(node, "text"),
    "inlineCard": _card,
    "blockCard": _card,
    "embedCard": _card,
    "paragraph": _inline,
    "heading": _inline,
    "codeBlock": _code,
    "blockquote": _quote,
    "rule": lambda _: "---",
    "bulletList": _bullets,
    "orderedList": _numbers,
    "decisionList": _bullets,
    "taskItem": _task,
    "tableRow": _row,
    "expand": _titled,
    "nestedExpand": _titled,
    "media": _media,
    "mediaInline": _media,
}

_INLINE = frozenset(
    {"text", "hardBreak", "mention", "emoji", "date", "status", "inlineCard", "mediaInline"}
)
