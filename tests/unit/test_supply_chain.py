"""What an installation consists of: licences that are allowed, and an SBOM that has all of it."""

import json
import os
import re
import runpy
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker

from tests.documentation import ROOT

#: Those under which we may pass on what we install; none asks for more than our own does.
ALLOWED = {
    *("MIT", "MIT-0", "ISC", "BSD", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "PSF-2.0"),
    *("MPL-2.0", "LGPL-3.0"),
}
#: What packages without an SPDX expression say instead.
SPDX = {
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "3-Clause BSD License": "BSD-3-Clause",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL-3.0",
    "ISC License (ISCL)": "ISC",
    "LGPL-3.0-only": "LGPL-3.0",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


def packages() -> dict[str, dict[str, Any]]:
    """The locked packages, by name."""
    locked = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))
    return {one["name"]: one for one in locked["package"]}


def installed() -> Iterator[str]:
    """The packages that an installation with all extras has on this machine."""
    known, seen = packages(), set[tuple[str, str | None]]()
    todo: list[tuple[str, str | None]] = [("temporaletl", None)]
    todo += [("temporaletl", extra) for extra in known["temporaletl"]["optional-dependencies"]]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        one = known[name]
        needs = one.get("optional-dependencies", {}).get(extra, []) if extra else None
        for need in one.get("dependencies", []) if needs is None else needs:
            if "marker" not in need or Marker(need["marker"]).evaluate():
                todo += [(need["name"], other) for other in (None, *need.get("extra", ()))]
    return iter(sorted({name for name, _ in seen} - {"temporaletl"}))


def licence_of(package: str) -> str:
    """Its licence, as an expression of SPDX as far as it says so."""
    found = metadata(package)
    if expression := found.get("License-Expression"):
        return str(expression)
    named = [
        one.rpartition(" :: ")[2]
        for one in found.get_all("Classifier", [])
        if one.startswith("License :: ") and one != "License :: OSI Approved"
    ]
    said = named or [str(found.get("License") or "none").partition("\n")[0]]
    return " AND ".join(SPDX.get(one, one) for one in said)


def is_allowed(expression: str) -> bool:
    """Whether one of the alternatives, with all of its parts, is allowed."""
    inner = re.sub(r"\(([^()]*)\)", lambda found: str(is_allowed(found[1])), expression)
    if inner != expression:
        return is_allowed(inner)
    return any(
        all(SPDX.get(one, one) in {*ALLOWED, "True"} for one in either.split(" AND "))
        for either in inner.split(" OR ")
    )


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("none", False),
        ("GPL-2.0-only OR MIT", True),
        ("MPL-2.0 AND (Apache-2.0 OR GPL-3.0-only)", True),
        ("MPL-2.0 AND (AGPL-3.0-only OR GPL-3.0-only)", False),
    ],
)
def test_a_licence_is_allowed_if_one_may_choose_allowed_ones(
    expression: str, *, allowed: bool
) -> None:
    assert is_allowed(expression) is allowed


def test_whatever_is_installed_has_an_allowed_licence() -> None:
    found = {name: licence_of(name) for name in installed()}
    assert {"temporalio", "psycopg-binary", "launchpadlib", "zeep"} <= found.keys()
    assert {name: said for name, said in found.items() if not is_allowed(said)} == {}


def test_the_sbom_has_every_package_with_its_version_and_hashes(tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    subprocess.run([ROOT / "scripts" / "sbom", file], check=True, timeout=120)
    document = json.loads(file.read_text("utf-8"))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    components = {one["name"]: one for one in document["components"]}
    known = packages()
    for name in installed():
        assert components[name]["version"] == known[name]["version"]
        assert all(one["hashes"] for one in components[name]["externalReferences"]), name
    assert "pytest-xdist" not in components


@pytest.mark.parametrize(
    ("answer", "ci", "status"), [("{}", "", 0), ("{}", "true", 1), ("CVE-2023-37920", "", 3)]
)
def test_an_audit_that_cannot_be_made_says_so_and_is_none(
    tmp_path: Path, answer: str, ci: str, status: int
) -> None:
    """With a `curl` that gives an answer, and a `uv` that fails where the audit would begin."""
    for name, script in {
        "curl": f"echo '{answer}'",
        "uv": '[[ $1 = --version ]] && exit; [[ "$*" = *--strict* ]] && exit 3; exit 0',
    }.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "CI": ci, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [ROOT / "scripts" / "audit"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert ("audit: skipped" in done.stderr) == (status != 3)


def test_every_file_names_the_same_version() -> None:
    """The check of a release."""
    release = runpy.run_path(str(ROOT / "scripts" / "release.py"))
    assert release["agreed_version"]() == packages()["temporaletl"]["version"]
