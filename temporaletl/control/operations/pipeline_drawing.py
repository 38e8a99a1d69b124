"""Drawing of pipelines as SVG: nodes where their definition puts them, or in layers."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from temporaletl.terminal import printable
from temporaletl.worker.pipelines.definition import ERROR_HANDLE
from temporaletl.worker.pipelines.validation import Pipeline, Step

_WIDTH, _HEIGHT = 200, 56
_BETWEEN_LAYERS, _BETWEEN_ROWS, _MARGIN = 90, 28, 20
#: Passes over the layers in which nodes are put near those that they are linked to.
_PASSES = 4
_LONGEST_TITLE = 26
#: What is read out of a node, and shown where it is pointed at.
_LONGEST_NAME = 200


#: Colours of a picture that no page's style sheet is for.
_STYLE = (
    "<style>.graph{background:#fff;font-family:sans-serif}.node rect{fill:#f6f8fa;stroke:#8c959f;"
    "stroke-width:2}.node text{fill:#1f2328;font-size:14px}.node .below,.outcome{fill:#59636e;"
    "font-size:12px}.edge{fill:none;stroke:#59636e;stroke-width:1.5}.edge.error{stroke:#cf222e;"
    "stroke-dasharray:5 4}marker path{fill:#59636e}</style>"
)


@dataclass(frozen=True, slots=True)
class NodeSign:
    """What a drawing says of a node besides its title: its state, and a short text."""

    state: str = "waiting"
    text: str = ""


def draw_picture(pipeline: Pipeline) -> str:
    """The graph of a pipeline as a file of its own: `draw_svg` with colours."""
    head, defs, rest = draw_svg(pipeline).partition("<defs>")
    return f"{head}{_STYLE}{defs}{rest}"


def draw_svg(pipeline: Pipeline, signs: Mapping[str, NodeSign] | None = None) -> str:
    """The graph of a pipeline as one inline `<svg>`: a `<g id="node-…" data-state="…">` each.

    Colours come from the page's style sheet, by `data-state`; edges have `data-taken` where the
    signs tell. Texts are escaped.
    """
    places = _places(pipeline)
    width = max((x for x, _ in places.values()), default=0) + _WIDTH + _MARGIN
    height = max((y for _, y in places.values()), default=0) + _HEIGHT + _MARGIN
    parts = [
        (
            f'<svg class="graph" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="group" aria-label="graph of the pipeline">'
        ),
        (
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
            'markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z"/></marker>'
            # Letters differ in width, and nothing of a title shall be beside its node.
            f'<clipPath id="within"><rect width="{_WIDTH - 4}" height="{_HEIGHT}"/></clipPath>'
            "</defs>"
        ),
    ]
    parts += _edges(pipeline, places)
    for index, step in enumerate(pipeline.steps.values()):
        sign = (signs or {}).get(step.id, NodeSign())
        parts.append(_node(index, step, places[step.id], sign))
    return "".join([*parts, "</svg>"])


def _node(index: int, step: Step, place: tuple[int, int], sign: NodeSign) -> str:
    x, y = place
    title = step.data.label or step.id
    short, title = _cut(title, _LONGEST_TITLE), _cut(title, _LONGEST_NAME)
    below = f"{step.type} {sign.text}".strip()
    what = f"{title}: {step.type}, {sign.state} {sign.text}".strip()
    return (
        f'<g id="node-{index}" class="node" data-node="{_text(step.id)}" '
        f'data-state="{_text(sign.state)}" transform="translate({x} {y})" role="img" '
        f'aria-label="{_text(what)}"><title>{_text(what)}</title>'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="8"/>'
        f'<g clip-path="url(#within)"><text x="12" y="24">{_text(short)}</text>'
        f'<text class="below" x="12" y="43">{_text(below)}</text></g></g>'
    )


def _edges(pipeline: Pipeline, places: Mapping[str, tuple[int, int]]) -> list[str]:
    found = []
    for link in pipeline.graph.links:
        (x1, y1), (x2, y2) = places[link.source], places[link.target]
        x1, y1, y2 = x1 + _WIDTH, y1 + _HEIGHT // 2, y2 + _HEIGHT // 2
        bend = max(30, abs(x2 - x1) // 2)
        kind = "edge error" if link.handle == ERROR_HANDLE else "edge"
        path = f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
        found.append(f'<path class="{kind}" d="{path}" marker-end="url(#arrow)"/>')
        if link.handle is not None:
            x, y = (x1 + x2) // 2, (y1 + y2) // 2 - 6
            found.append(
                f'<text class="outcome" x="{x}" y="{y}" text-anchor="middle">'
                f"{_text(link.handle)}</text>"
            )
    return found


def _places(pipeline: Pipeline) -> dict[str, tuple[int, int]]:
    """Where the definition puts all nodes, else where layers do."""
    return _positions(pipeline) or _layered(pipeline)


def _positions(pipeline: Pipeline) -> dict[str, tuple[int, int]] | None:
    found = {}
    for node in pipeline.steps:
        match pipeline.positions.get(node):
            case {"x": int() | float() as x, "y": int() | float() as y}:
                found[node] = (x, y)
            case _:
                return None
    if not found:
        return None
    left, top = min(x for x, _ in found.values()), min(y for _, y in found.values())
    return {
        node: (round(x - left) + _MARGIN, round(y - top) + _MARGIN)
        for node, (x, y) in found.items()
    }


def _layered(pipeline: Pipeline) -> dict[str, tuple[int, int]]:
    """Each node a layer behind the last of those before it, near those it is linked to."""
    graph = pipeline.graph
    depth: dict[str, int] = {}
    for node in graph.order:
        depth[node] = max((depth[link.source] + 1 for link in graph.into[node]), default=0)
    layers: list[list[str]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for node in graph.nodes:
        layers[depth[node]].append(node)
    for _ in range(_PASSES):
        for index, layer in enumerate(layers):
            _order(layer, layers[index - 1] if index else [], graph.into, "source")
        for index in range(len(layers) - 2, -1, -1):
            _order(layers[index], layers[index + 1], graph.out_of, "target")
    return {
        node: (
            _MARGIN + column * (_WIDTH + _BETWEEN_LAYERS),
            _MARGIN + row * (_HEIGHT + _BETWEEN_ROWS),
        )
        for column, layer in enumerate(layers)
        for row, node in enumerate(layer)
    }


def _order(
    layer: list[str], beside: Sequence[str], links: Mapping[str, Sequence[Any]], end: str
) -> None:
    """Order a layer by the middle of what its nodes are linked to in the one beside it."""
    rows = {node: row for row, node in enumerate(beside)}
    present = {node: row for row, node in enumerate(layer)}

    def middle(node: str) -> float:
        linked = [rows[other] for link in links[node] if (other := getattr(link, end)) in rows]
        return sum(linked) / len(linked) if linked else present[node]

    layer.sort(key=middle)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _text(text: str) -> str:
    return html.escape(printable(text), quote=True)
