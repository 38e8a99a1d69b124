"""Writes the dbt package's sources and staging models, from the row classes: see scripts/docs.

python scripts/dbt_package.py [FOLDER [SOURCE ...]]    # default: all sources, into dbt/
"""

import re
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from temporaletl.control.operations.sources import registered
from temporaletl.rows import Event, Identity
from temporaletl.warehouse.views import View, views
from temporaletl.worker.loading.catalog import target_name
from temporaletl.worker.loading.columns import DELETED, HASH, Layout, layout_of
from temporaletl.worker.loading.evolution import rows_of

FOLDER = Path(__file__).parent.parent / "dbt" / "models" / "staging"
_HEAD = (
    "Written by scripts/dbt_package.py from the row classes: change those, then run scripts/docs."
)
#: The source, in dbt's sense, of what belongs to none of the work systems.
_PLATFORM = "temporaletl"
_SCHEMA = "{{ var('temporaletl_schema', env_var('WPE_DB_SCHEMA', 'workplace')) }}"
_ENABLED = "{{{{ '{}' in var('temporaletl_sources') }}}}"
_DESCRIPTIONS = {
    "jira": "Jira.",
    "launchpad": "Launchpad.",
    "salesforce": "Salesforce.",
    "servicetitan": "ServiceTitan.",
    "temporal": "Temporal's workflow executions.",
    "trino": "Trino's datasets.",
}
#: What the names of a source's tables begin with, in place of the source's name.
_PREFIXES = {"servicetitan": "st_"}
_DELETIONS = "etl_deletions"

Document = dict[str, Any]


def package(sources: Collection[str]) -> dict[Path, str]:
    """The files by their paths in FOLDER, of these sources and the platform's own tables."""
    written = {
        Path("temporaletl", "_sources.yml"): _yaml(_platform_sources()),
        Path("temporaletl", "_models.yml"): _yaml(_platform_models(sources)),
        Path("temporaletl", "all_events.sql"): _all_events(sources),
        Path("temporaletl", "stg_temporaletl__deletions.sql"): _sql(
            _PLATFORM, _DELETIONS, list(_deletions())
        ),
        Path("temporaletl", "stg_temporaletl__identities.sql"): _staging(
            _PLATFORM, layout_of(Identity)
        ),
    }
    for source in sources:
        layouts = [layout_of(row) for row in rows_of(source)]
        folder = Path(source)
        written[folder / "_sources.yml"] = _yaml(_sources(source, layouts))
        written[folder / "_models.yml"] = _yaml(
            {"version": 2, "models": [_model(source, layout) for layout in layouts]}
        )
        for layout in layouts:
            written[folder / f"{_model_name(source, layout)}.sql"] = _staging(source, layout)
    return written


def _sources(source: str, layouts: Sequence[Layout]) -> Document:
    tables = [
        {
            "name": layout.table,
            "identifier": target_name(layout, source),
            "description": layout.row.comment,
            "config": {"loaded_at_field": layout.ours["updated_at"], "freshness": _freshness()},
            "columns": [_column(name, *told) for name, told in _columns(layout).items()],
        }
        for layout in layouts
    ]
    shown = [_view(view) for view in views() if view.source == source]
    description = _DESCRIPTIONS.get(source, f"Source {source}.")
    return _source(source, description, tables + shown, enabled=_ENABLED.format(source))


def _platform_sources() -> Document:
    identities = layout_of(Identity)
    tables = [
        {
            "name": identities.table,
            "description": Identity.comment,
            "columns": [_column(name, *told) for name, told in _columns(identities).items()],
        },
        {
            "name": _DELETIONS,
            "description": _own_comments(_DELETIONS)[""],
            "columns": [{"name": name, "description": text} for name, text in _deletions().items()],
        },
    ]
    shown = [_view(view) for view in views() if view.source is None]
    return _source(_PLATFORM, "What belongs to no single source.", tables + shown)


def _source(
    name: str, description: str, tables: list[Document], *, enabled: str | None = None
) -> Document:
    config = {} if enabled is None else {"config": {"enabled": enabled}}
    return {
        "version": 2,
        "sources": [
            {
                "name": name,
                "description": description,
                "schema": _SCHEMA,
                **config,
                "tables": tables,
            }
        ],
    }


def _freshness() -> Document:
    return {
        f"{level}_after": {
            "count": f"{{{{ var('temporaletl_{level}_after_hours') | as_number }}}}",
            "period": "hour",
        }
        for level in ("warn", "error")
    }


def _view(view: View) -> Document:
    columns = [{"name": name, "description": text} for name, text in view.columns.items()]
    return {"name": view.name, "description": view.comment, "columns": columns}


def _model(source: str, layout: Layout) -> Document:
    ours = {*layout.ours.values()} - {layout.connection}
    own = {field for part in layout.parts for field in part.columns}
    never_null = [name for name in layout.required if name not in ours]
    columns = []
    told = _columns(layout)
    for name in _shown(layout):
        column = _column(name, *told[name])
        tests: list[Any] = ["not_null"] if name in never_null else []
        values = layout.row.known_values.get(name) if name in own else None
        if name == "source_kind_id" and layout.partitioned:
            values = (source,)
        if values:
            tests.append({"accepted_values": {"arguments": {"values": list(values)}}})
        columns.append(column | ({"data_tests": tests} if tests else {}))
    tests = [{"unique_key": {"arguments": {"columns": [*layout.key]}}}]
    for name, table in layout.row.refers_to.items():
        (target,) = (each for each in map(layout_of, rows_of(source)) if each.table == table)
        arguments = {
            "column": name,
            "to": f"ref('{_model_name(source, target)}')",
            "field": target.own_key[-1],
        }
        tests.append({"refers_to": {"arguments": arguments, "config": {"severity": "warn"}}})
    return {
        "name": _model_name(source, layout),
        "description": layout.row.comment,
        "config": {"enabled": _ENABLED.format(source)} if source != _PLATFORM else {},
        "data_tests": tests,
        "columns": columns,
    }


def _platform_models(sources: Collection[str]) -> Document:
    identities = _model(_PLATFORM, layout_of(Identity))
    deletions = {
        "name": "stg_temporaletl__deletions",
        "description": _own_comments(_DELETIONS)[""],
        "columns": [
            {"name": name, "description": text, "data_tests": ["not_null"]}
            | ({"data_tests": ["not_null", "unique"]} if name == "deletion_id" else {})
            for name, text in _deletions().items()
        ],
    }
    events = _model(_PLATFORM, layout_of(Event))
    # Each is tested in the staging model of its source.
    columns = [
        {name: value for name, value in column.items() if name != "data_tests"}
        for column in events["columns"]
    ]
    every = {
        "name": "all_events",
        "description": "The events of all sources that are read, without the deleted ones.",
        "config": {"enabled": _any_enabled(_with_events(sources))},
        "columns": columns,
    }
    models = [{k: v for k, v in one.items() if v} for one in (identities, deletions, every)]
    return {"version": 2, "models": models}


def _with_events(sources: Collection[str]) -> list[str]:
    return [
        source for source in sources if any(layout_of(row).partitioned for row in rows_of(source))
    ]


def _any_enabled(sources: Sequence[str]) -> str:
    listed = ", ".join(f"'{source}'" for source in sources)
    return f"{{{{ [{listed}] | select('in', var('temporaletl_sources')) | list | length > 0 }}}}"


def _all_events(sources: Collection[str]) -> str:
    listed = ", ".join(f"'{source}'" for source in _with_events(sources))
    columns = (f"    {_quoted(name)}" for name in _shown(layout_of(Event)))
    lines = [
        f"{{#- {_HEAD} -#}}",
        f"{{%- set sources = [{listed}] | select('in', var('temporaletl_sources')) -%}}",
        "{%- for source in sources %}",
        "SELECT",
        ",\n".join(columns),
        "FROM {{ ref('stg_' ~ source ~ '__events') }}",
        "{% if not loop.last %}UNION ALL{% endif %}",
        "{%- endfor %}",
    ]
    return "\n".join(lines) + "\n"


def _staging(source: str, layout: Layout) -> str:
    return _sql(source, layout.table, _shown(layout), present=layout.ours.get(DELETED))


def _shown(layout: Layout) -> list[str]:
    """The columns of a staging model."""
    left_out = {layout.ours[HASH], layout.ours.get(DELETED)}
    return [column.name for column in layout.columns if column.name not in left_out]


def _sql(source: str, table: str, columns: Sequence[str], *, present: str | None = None) -> str:
    listed = ",\n    ".join(_quoted(name) for name in columns)
    where = "" if present is None else f"\nWHERE {_quoted(present)} IS NULL"
    return (
        f"{{#- {_HEAD} -#}}\n"
        f"SELECT\n    {listed}\nFROM {{{{ source('{source}', '{table}') }}}}{where}\n"
    )


def _quoted(name: str) -> str:
    # Words that SQL takes for its own, and names that it would fold.
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def _model_name(source: str, layout: Layout) -> str:
    prefix = "etl_" if source == _PLATFORM else _PREFIXES.get(source, f"{source}_")
    return f"stg_{source}__{layout.table.removeprefix(prefix)}"


def _columns(layout: Layout) -> dict[str, tuple[str, str]]:
    return {column.name: (column.comment, column.type) for column in layout.columns}


def _column(name: str, comment: str, kind: str) -> Document:
    return {"name": name, "description": comment, "data_type": kind}


def _deletions() -> Mapping[str, str]:
    return {name: text for name, text in _own_comments(_DELETIONS).items() if name}


def _own_comments(table: str) -> dict[str, str]:
    """Comments of a table of the platform and of its columns, as the migrations make them."""
    folder = files("temporaletl.warehouse") / "migrations"
    text = (folder / "0026_comments.sql").read_text(encoding="utf-8")
    row = re.compile(rf"\('{table}', (?:NULL|'(\w+)'),\s*'((?:[^']|'')*)'\)")
    return {name or "": said.replace("''", "'") for name, said in row.findall(text)}


def _yaml(document: Document) -> str:
    body = yaml.safe_dump(document, sort_keys=False, width=100, allow_unicode=True)
    return f"# {_HEAD}\n{body}"


def _write(folder: Path, written: Mapping[Path, str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for path, text in written.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    known = [source.name for source in registered()]
    _write(Path(sys.argv[1]) if sys.argv[1:] else FOLDER, package(sys.argv[2:] or known))
