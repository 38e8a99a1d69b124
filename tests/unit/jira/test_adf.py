"""Documents as text."""

from typing import Any

import pytest

from temporaletl.worker.sources.jira.adf import text_of

Node = dict[str, Any]


def node(kind: str, *content: Any, **attrs: Any) -> Node:
    node: Node = {"type": kind, "content": list(content)}
    return node | ({"attrs": attrs} if attrs else {})


def words(text: str, *marks: Node) -> Node:
    return {"type": "text", "text": text} | ({"marks": list(marks)} if marks else {})


def line(text: str) -> Node:
    return node("paragraph", words(text))


def doc(*content: Any) -> Node:
    return {"type": "doc", "version": 1, "content": list(content)}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (None, ""),
        ("h1. Wiki *text*\n", "h1. Wiki *text*\n"),
        (doc(), ""),
        (doc(line("a"), line("b")), "a\nb"),
        (doc(node("heading", words("Title"), level=2), line("b")), "Title\nb"),
        (doc(node("paragraph", words("a"), {"type": "hardBreak"}, words("b"))), "a\nb"),
        (
            doc(node("paragraph", node("mention", id="5b1", text="@Ada"), words(" hi"))),
            "@Ada hi",
        ),
        (doc(node("paragraph", node("mention", id="5b1"))), "@5b1"),
        (
            doc(node("paragraph", words("page", {"type": "link", "attrs": {"href": "http://x"}}))),
            "page (http://x)",
        ),
        (
            doc(
                node(
                    "paragraph", words("http://x", {"type": "link", "attrs": {"href": "http://x"}})
                )
            ),
            "http://x",
        ),
        (doc(node("paragraph", node("inlineCard", url="http://x/y"))), "http://x/y"),
        (doc(node("paragraph", node("emoji", shortName=":+1:", text="👍"))), "👍"),
        (doc(node("paragraph", node("emoji", shortName=":ours:"))), ":ours:"),
        (doc(node("paragraph", node("date", timestamp="1700000000000"))), "2023-11-14"),
        (doc(node("paragraph", node("status", text="DONE", color="green"))), "DONE"),
        (
            doc(
                node(
                    "bulletList",
                    node("listItem", line("a"), node("bulletList", node("listItem", line("b")))),
                    node("listItem", line("c")),
                )
            ),
            "- a\n  - b\n- c",
        ),
        # A number that is none, for its length.
        (doc(node("orderedList", node("listItem", line("a")), order="9" * 5_000)), "1. a"),
        (
            doc(node("orderedList", node("listItem", line("a")), node("listItem", line("b")))),
            "1. a\n2. b",
        ),
        (
            doc(
                node("taskList", node("taskItem", words("a"), state="DONE")),
                node("taskList", node("taskItem", words("b"), state="TODO")),
            ),
            "[x] a\n[ ] b",
        ),
        (doc(node("codeBlock", words("x = 1\ny"), language="python")), "```python\nx = 1\ny\n```"),
        (doc(node("blockquote", line("a"), line("b"))), "> a\n> b"),
        (
            doc(
                node(
                    "table",
                    node("tableRow", node("tableHeader", line("a")), node("tableCell", line("b"))),
                    node("tableRow", node("tableCell", line("c")), node("tableCell")),
                )
            ),
            "a | b\nc | ",
        ),
        (doc(node("panel", line("a"), panelType="info")), "a"),
        (doc(node("expand", line("a"), title="More")), "More\na"),
        (doc(node("mediaSingle", node("media", id="1", alt="plan.png"))), "[plan.png]"),
        (doc(line("a"), node("rule"), line("b")), "a\n---\nb"),
        (doc(node("hologram", line("a"), node("paragraph", node("spin", text="b")))), "a\nb"),
        (doc({"type": "bodied", "content": None}, line("a")), "a"),
        (doc("loose", {"type": 7}, None), "loose"),
        (
            doc(node("paragraph", words("see "), node("inlineCard", url="https://x.test/a"))),
            "see https://x.test/a",
        ),
        (
            doc(
                node(
                    "paragraph",
                    words("see "),
                    node("inlineCard", data={"@type": "Document", "url": "https://x.test/b"}),
                )
            ),
            "see https://x.test/b",
        ),
        (doc(node("blockCard", data={"name": "Plan"})), "Plan"),
        (doc(node("embedCard", data="Plan"), node("blockCard")), ""),
        (["x", 3, {"type": "text", "text": "y"}], "xy"),
    ],
)
def test_a_document_becomes_its_text(body: Any, text: str) -> None:
    assert text_of(body) == text
