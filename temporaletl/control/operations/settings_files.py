"""The files that settings stand in, edited: `.env`, and the connections file.

What stands there already stays as it is, comments as well. Files are written all at once.
"""

import contextlib
import io
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from temporaletl.errors import ConfigurationError

#: What shells, Docker and systemd read as it is, without quotes.
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
_OWNERS_ALONE = 0o600
_OTHERS = 0o077


def read_text(path: Path) -> str:
    """The text of a settings file; empty where there is none.

    Raises:
        ConfigurationError: it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigurationError(f"{path} cannot be read: {reason}") from None


def with_variables(text: str, variables: Mapping[str, str], *, file: Path) -> str:
    """The text of a `.env` file with these variables: the lines of others are as they were.

    Raises:
        ConfigurationError: a value cannot stand in such a file; the variable is named.
    """
    left, lines = dict(variables), []
    for binding in parse_stream(io.StringIO(text)):
        if binding.key in variables:
            # Of several lines, the last one counts.
            if binding.key in left:
                lines.append(_line(binding.key, left.pop(binding.key)))
            continue
        lines.append(binding.original.string)
    if lines and not lines[-1].endswith("\n"):
        lines.append("\n")
    written = "".join([*lines, *(_line(name, value) for name, value in left.items())])
    found = dotenv_values(stream=io.StringIO(written, newline=None))  # as a file is read
    for name, value in variables.items():
        if found.get(name) != value:
            raise ConfigurationError(f"{file}: the value of {name} cannot stand in it")
    return written


def _line(name: str, value: str) -> str:
    if not _PLAIN.fullmatch(value):
        # Whatever reads it takes ${…} for another variable, also between single quotes.
        quoted = value.replace("\\", "\\\\").replace("'", "\\'").replace("${", "${:-$}{")
        value = f"'{quoted}'"
    return f"{name}={value}\n"


def with_connection(text: str, name: str, section: Mapping[str, Any], *, file: Path) -> str:
    """The text of a connections file with this connection, in the place of one of that name.

    Raises:
        ConfigurationError: the file is no TOML; or the connection stands there in another form
            than as a table of its own, and must be changed by hand.
    """
    try:
        before = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise ConfigurationError(f"{file} is no TOML: `etl connections list` says more") from None
    lines = [f"[{name}]\n", *(f"{key} = {_toml(value)}\n" for key, value in section.items())]
    kept = text.splitlines(keepends=True)
    if name in before:
        start, end = _place(kept, name)
        kept[start:end] = [*lines, *(["\n"] if end < len(kept) else [])]
        written = "".join(kept)
    else:
        apart = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        written = text + apart + "".join(lines)
    with contextlib.suppress(tomllib.TOMLDecodeError):
        if tomllib.loads(written) == {**before, name: dict(section)}:
            return written
    raise ConfigurationError(f"{file}: connection {name!r} must be changed by hand")


def _place(lines: list[str], name: str) -> tuple[int, int]:
    """The lines of a table: from its head to the next one's, or an empty range at the end."""
    heads = [number for number, line in enumerate(lines) if line.lstrip().startswith("[")]
    for head, following in pairwise([*heads, len(lines)]):
        if re.match(rf"\s*\[\s*{re.escape(name)}\s*\]", lines[head]):
            return head, following
    return len(lines), len(lines)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {_toml(each)}" for key, each in value.items())
        return f"{{ {inner} }}"
    return json.dumps(value, ensure_ascii=False)


def write_files(texts: Mapping[Path, str]) -> None:
    """Write files, each whole or not at all; a new one is its owner's alone.

    Raises:
        ConfigurationError: one cannot be written; then none is, if it is seen before.
    """
    with contextlib.ExitStack() as fresh:
        ready = [(fresh.enter_context(_fresh(path, text)), path) for path, text in texts.items()]
        for temporary, path in ready:
            try:
                temporary.replace(path.resolve())
            except OSError as error:
                raise _unwritable(path, error) from None


@contextlib.contextmanager
def _fresh(path: Path, text: str) -> Iterator[Path]:
    """The text in a file beside the one that it is to replace, gone at the end."""
    target = path.resolve()
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else _OWNERS_ALONE
        with NamedTemporaryFile(
            "w", encoding="utf-8", dir=target.parent, prefix=f"{target.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(mode)
        except OSError as error:
            raise _unwritable(path, error) from None
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{path} cannot be written: {error.strerror}")


def others_may_read(path: Path) -> bool:
    """Whether others than its owner may read or write a file."""
    return bool(path.stat().st_mode & _OTHERS)
