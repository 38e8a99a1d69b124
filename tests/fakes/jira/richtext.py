"""Text as wiki markup (REST v2) and as an Atlassian document (REST v3): the same content."""

import re
from collections.abc import Callable, Mapping
from typing import Any

Json = dict[str, Any]

#: Fields of an issue whose text is a document in REST v3.
RICH_FIELDS = frozenset({"description", "environment"})

_INLINE = re.compile(
    r"\[~(?:accountid:)?(?P<who>[^\]\s]+)\]"
    r"|\[(?P<label>[^|\]\n]*)\|(?P<link>[a-z]+://[^\]\s]+|mailto:[^\]\s]+)\]"
    r"|(?P<bare>https?://[^\s\]|]+)"
)


def to_adf(text: object, name_of: Callable[[str], str] = str) -> Json | None:
    """Return wiki text as a document; a document and None are returned as they are.

    Blank lines part paragraphs, mentions and links become nodes; `name_of` gives the display
    name for a mentioned account. Other markup stays as literal text.
    """
    if text is None or isinstance(text, dict):
        return text
    paragraphs = re.split(r"\n\s*\n", str(text).replace("\r\n", "\n").strip("\n"))
    content = [
        {"type": "paragraph", "content": _inline(paragraph, name_of)}
        for paragraph in paragraphs
        if paragraph
    ]
    return {"version": 1, "type": "doc", "content": content}


def _inline(paragraph: str, name_of: Callable[[str], str]) -> list[Json]:
    nodes: list[Json] = []
    for number, line in enumerate(paragraph.split("\n")):
        if number:
            nodes.append({"type": "hardBreak"})
        at = 0
        for found in _INLINE.finditer(line):
            if found.start() > at:
                nodes.append({"type": "text", "text": line[at : found.start()]})
            nodes.append(_node(found, name_of))
            at = found.end()
        if at < len(line):
            nodes.append({"type": "text", "text": line[at:]})
    return nodes


def _node(found: re.Match[str], name_of: Callable[[str], str]) -> Json:
    who, label = found["who"], found["label"]
    if who is not None:
        attributes = {"id": who, "text": f"@{name_of(who)}", "accessLevel": ""}
        return {"type": "mention", "attrs": attributes}
    target = found["link"] or found["bare"]
    mark = {"type": "link", "attrs": {"href": target}}
    return {"type": "text", "text": label or target, "marks": [mark]}


def to_wiki(body: object, *, cloud: bool) -> str | None:
    """Return a document as wiki text; text and None are returned as they are."""
    if body is None or isinstance(body, str):
        return body
    if not isinstance(body, Mapping):
        return str(body)
    return "\n\n".join(_block(node, cloud=cloud) for node in body.get("content") or [])


def _block(node: Mapping[str, Any], *, cloud: bool) -> str:
    kind = node.get("type")
    attributes = node.get("attrs") or {}
    children = node.get("content") or []
    inner = [_block(each, cloud=cloud) for each in children]
    match kind:
        case "text":
            text = _linked(node)
        case "hardBreak":
            text = "\n"
        case "mention":
            text = f"[~{'accountid:' if cloud else ''}{attributes.get('id', '')}]"
        case "inlineCard" | "blockCard":
            text = f"[{attributes.get('url', '')}]"
        case "emoji":
            text = str(attributes.get("text") or attributes.get("shortName") or "")
        case "bulletList":
            text = "\n".join(f"* {each}" for each in inner)
        case "orderedList":
            text = "\n".join(f"# {each}" for each in inner)
        case "heading":
            text = f"h{attributes.get('level', 1)}. {''.join(inner)}"
        case "codeBlock":
            text = f"{{code}}\n{''.join(inner)}\n{{code}}"
        case _:
            text = "".join(inner)
    return text


def _linked(node: Mapping[str, Any]) -> str:
    text = str(node.get("text", ""))
    for mark in node.get("marks") or []:
        if mark.get("type") == "link":
            target = str(mark["attrs"]["href"])
            return target if target == text else f"[{text}|{target}]"
    return text
