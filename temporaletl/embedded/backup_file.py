"""A backup's file: a ZIP of dumps, a copy of Temporal's file, and a manifest with checksums.

What is in it, any program reads: `unzip -p FILE warehouse.dump | pg_restore …`.
"""

import errno
import hashlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from temporaletl.embedded.staging import sync
from temporaletl.errors import ConflictError, PermanentError

#: Of the manifest: another number is of another arrangement.
FORMAT = 1
_MANIFEST = "manifest.json"
_CHUNK_BYTES = 1 << 20
#: What is longer is no manifest.
_LARGEST_MANIFEST_BYTES = 64 << 20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class BackupError(PermanentError):
    """A backup could not be made, or is none that can be restored here; the message says why."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A file within a backup."""

    name: str
    bytes: int
    sha256: str


class DatabaseContent(msgspec.Struct, frozen=True, kw_only=True):
    """A database within a backup: rows by table, and migrations by schema, both complete."""

    name: str
    part: str
    rows: dict[str, int]
    migrations: dict[str, list[str]]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds. `made_at` is an ISO date-time in UTC; `roles` is the part with them.

    `temporal` is the part with Temporal's state, None where there was none to copy.
    """

    format: int
    made_at: str
    temporaletl: str
    postgresql: str
    databases: list[DatabaseContent]
    roles: str
    temporal: str | None
    parts: list[Part]


class BackupWriter:
    """The parts of a backup that is being written."""

    def __init__(self, archive: zipfile.ZipFile, folder: Path) -> None:
        self._archive = archive
        self.folder = folder  # for what must be a file first; goes with the writing
        self.parts: list[Part] = []

    def add(self, name: str, content: IO[bytes], *, compressed: bool = False) -> None:
        """Add a part; `compressed` says that it is already."""
        how = zipfile.ZIP_STORED if compressed else zipfile.ZIP_DEFLATED
        entry = zipfile.ZipInfo(name)
        entry.compress_type = how
        entry.external_attr = 0o600 << 16
        digest, length = hashlib.sha256(), 0
        with self._archive.open(entry, "w", force_zip64=True) as part:
            while chunk := content.read(_CHUNK_BYTES):
                digest.update(chunk)
                length += len(chunk)
                part.write(chunk)
        self.parts.append(Part(name=name, bytes=length, sha256=digest.hexdigest()))

    def finish(self, manifest: Manifest) -> None:
        self._archive.writestr(_MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))


@contextmanager
def writing(file: Path, *, overwrite: bool = False) -> Iterator[BackupWriter]:
    """Write a backup: the file is there, whole and on the disk, once the context has ended well.

    Until then, and after an error or an interruption, what had the name before is untouched. Only
    its owner may read it.

    Raises:
        ConflictError: something has the name, and `overwrite` is not set.
        BackupError: it cannot be written there, or the disk is full; nothing is left behind.
    """
    _check_free(file, overwrite=overwrite)
    try:
        with tempfile.TemporaryDirectory(
            dir=file.parent, prefix=f".{file.name}.", suffix=".part"
        ) as name:
            half = Path(name) / "backup"
            half.touch(mode=0o600)
            with zipfile.ZipFile(half, "w", allowZip64=True) as archive:
                yield BackupWriter(archive, Path(name))
            sync(half)
            _check_free(file, overwrite=overwrite)
            half.replace(file)
        sync(file.parent)
    except OSError as error:
        if error.errno in _NO_ROOM:
            free = shutil.disk_usage(file.parent).free / 1e6
            raise BackupError(
                f"there is no room for the backup in {file.parent}: {free:,.0f} MB are free again "
                "now, and it takes more. Nothing was kept; choose another folder, or make room"
            ) from None
        raise BackupError(f"{file} cannot be written: {error.strerror or error}") from None


def _check_free(file: Path, *, overwrite: bool) -> None:
    if file.is_dir():
        raise ConflictError(f"{file} is a folder")
    if not overwrite and (file.exists() or file.is_symlink()):
        raise ConflictError(f"{file} exists: choose another name, or --overwrite it")


class BackupReader:
    """A backup whose every part was found as its manifest says."""

    def __init__(self, archive: zipfile.ZipFile, manifest: Manifest) -> None:
        self._archive = archive
        self.manifest = manifest

    def open(self, part: str) -> IO[bytes]:
        return self._archive.open(part)


@contextmanager
def reading(file: Path) -> Iterator[BackupReader]:
    """Open a backup, once all of it was read and compared with its checksums.

    Raises:
        BackupError: there is no such file, it is no backup, it is of a later arrangement, or it
            was damaged since.
    """
    try:
        archive = zipfile.ZipFile(file)
    except OSError as error:
        raise BackupError(f"{file} cannot be read: {error.strerror or error}") from None
    except zipfile.BadZipFile:
        raise BackupError(
            f"{file} is no backup, or only the beginning of one: `etl backup` makes them"
        ) from None
    with archive:
        manifest = _read_manifest(archive, file)
        for part in manifest.parts:
            _check_part(archive, part, file)
        yield BackupReader(archive, manifest)


def _read_manifest(archive: zipfile.ZipFile, file: Path) -> Manifest:
    try:
        with archive.open(_MANIFEST) as content:
            text = content.read(_LARGEST_MANIFEST_BYTES)
        found = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        made_as = msgspec.json.decode(found.get("format", b"0"), type=int)
        if made_as > FORMAT:
            raise BackupError(
                f"{file} was made by a later version of temporaletl than this one: restore it with "
                "that, or a later one"
            )
        manifest = msgspec.json.decode(text, type=Manifest)
    except (KeyError, msgspec.DecodeError):
        raise BackupError(f"{file} is no backup: `etl backup` makes them") from None
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise _damaged(file, _MANIFEST) from None
    named = {part.name for part in manifest.parts}
    needed: Sequence[str | None] = [
        manifest.roles,
        manifest.temporal,
        *(database.part for database in manifest.databases),
    ]
    if missing := [part for part in needed if part is not None and part not in named]:
        raise _damaged(file, missing[0])
    return manifest


def _check_part(archive: zipfile.ZipFile, part: Part, file: Path) -> None:
    digest = hashlib.sha256()
    try:
        with archive.open(part.name) as content:
            while chunk := content.read(_CHUNK_BYTES):
                digest.update(chunk)
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError):
        raise _damaged(file, part.name) from None
    if digest.hexdigest() != part.sha256:
        raise _damaged(file, part.name)


def _damaged(file: Path, part: str) -> BackupError:
    return BackupError(
        f"{file} is damaged: {part} in it is not what was written. Nothing was restored; take "
        "another backup"
    )
