"""Secrets in files: what `X_FILE` names in the place of `X`, and a connection's `{ file = "…" }`.

    JIRA_API_TOKEN_FILE=/run/secrets/jira

A file is read when its secret is needed, so that it can be replaced while the process runs. One
that was read before and cannot be read now keeps what it held: it may just be written.
"""

import logging
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from temporaletl.errors import ConfigurationError, SettingsError
from temporaletl.secrets import remember_secret

#: What the name of a variable ends with that holds a file's path in a secret's place.
FILE = "_FILE"
#: What stands in a path's place by mistake is taken for a secret, if it is no shorter.
_SHORTEST_PASTED = 12

log = logging.getLogger("temporaletl.settings.secret_files")


@dataclass(slots=True)
class _Known:
    text: str
    changed_at: float
    readable: bool = True


#: By absolute paths.
_known: dict[str, _Known] = {}
_guard = threading.Lock()


@dataclass(frozen=True, slots=True)
class SecretFile:
    """The file that holds the value of `variable`: another variable, `X_FILE`, has its path."""

    variable: str
    path: str = field(repr=False)

    @property
    def what(self) -> str:
        """What names it, in messages."""
        return self.variable + FILE

    def read(self) -> str:
        """The secret; raises as `read_secret`."""
        return read_secret(self.path, what=self.what)


def file_of(variables: Iterable[str], place: Mapping[str, str]) -> SecretFile | None:
    """The file that holds the secret of these variables, by a place that holds settings.

    Raises:
        SettingsError: the secret is given there as well, or in two files; both are named.
    """
    names = [name for one in variables for name in (one, one + FILE) if place.get(name)]
    files = [name for name in names if name.endswith(FILE)]
    if not files:
        return None
    if len(names) > 1:
        raise SettingsError(
            f"{names[0]} and {names[1]} are both set: unset one of them", variables=frozenset(names)
        )
    return SecretFile(files[0].removesuffix(FILE), place[files[0]])


def with_files(variables: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The variables, with those of `names` that are in files read from there.

    Raises:
        SettingsError: as `file_of`.
        ConfigurationError: as `read_secret`.
    """
    found = dict(variables)
    for name in names:
        if file := file_of((name,), variables):
            found[name] = file.read()
            del found[file.what]
    return found


def read_secret(path: str, *, what: str, is_secret: bool = True) -> str:
    """The text of a file without the line end behind it; kept out of all that leaves the process.

    Not kept out where it `is_secret` no more than other settings.

    Raises:
        ConfigurationError: it cannot be read, or is empty, and held nothing before; says so of
            `what`, with the path.
    """
    place = str(Path(path).absolute())  # not resolved: links are how files are replaced
    with _guard:
        known = _known.get(place)
        try:
            text = _read(path, what)
        except ConfigurationError as error:
            if known is None:
                raise
            if known.readable:
                log.warning("what it held before is used: %s", error)
            known.readable = False
            return known.text
        if is_secret:
            remember_secret(text)
        if known is None or known.text != text:
            _known[place] = _Known(text, monotonic())
        else:
            known.readable = True
    return text


def replaced_since(moment: float) -> bool:
    """Whether a file that was read before has another secret since a time of `monotonic`."""
    with _guard:
        paths = list(_known)
    for path in paths:
        read_secret(path, what=path, is_secret=False)
    with _guard:
        return any(known.changed_at >= moment for known in _known.values())


def _read(path: str, what: str) -> str:
    try:
        # Editors on Windows begin a file with a mark that is no part of it.
        text = Path(path).read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationError(f"{what}: cannot read {shown_path(path)}: {reason}") from None
    if not text.strip():
        raise ConfigurationError(f"{what}: {shown_path(path)} is empty")
    return text


def shown_path(path: str) -> str:
    """The path in messages; in words where it may be a secret that was pasted in its place."""
    if is_on_disk(path):
        return path
    remember_pasted(path)
    return "the file that it names"


def remember_pasted(text: str) -> None:
    """Keep out of all texts what may be a secret; a short word would blank other texts."""
    if len(text) >= _SHORTEST_PASTED:
        remember_secret(text)


def is_on_disk(path: str) -> bool:
    """Whether a text is a path for certain: a file, or below a folder that is there."""
    try:
        folders = [one for one in Path(path).parents if one not in {Path(), Path("/")}]
        return os.path.lexists(path) or any(one.is_dir() for one in folders)
    except (OSError, ValueError):
        return False
