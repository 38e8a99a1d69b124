import io
import os
import zipfile
from pathlib import Path

import msgspec
import pytest

from temporaletl.embedded import backup_file
from temporaletl.embedded.backup import check_restorable
from temporaletl.embedded.backup_file import (
    FORMAT,
    BackupError,
    DatabaseContent,
    Manifest,
    reading,
    writing,
)
from temporaletl.errors import ConflictError
from temporaletl.warehouse.migration import known_migrations

ROWS = os.urandom(3_000_000)
FIRST = known_migrations()[0]
DATABASE = DatabaseContent(
    name="warehouse", part="warehouse.dump", rows={"a.b": 1}, migrations={"a": [FIRST]}
)
MANIFEST = Manifest(
    format=FORMAT,
    made_at="2025-01-31T06:00:00+00:00",
    temporaletl="7.0",
    postgresql="16.1",
    databases=[DATABASE],
    roles="roles.sql",
    temporal=None,
    parts=[],
)


def write(file: Path, manifest: Manifest = MANIFEST, *, overwrite: bool = False) -> None:
    with writing(file, overwrite=overwrite) as writer:
        writer.add("roles.sql", io.BytesIO(b"CREATE ROLE a;\n"))
        writer.add("warehouse.dump", io.BytesIO(ROWS), compressed=True)
        writer.finish(msgspec.structs.replace(manifest, parts=writer.parts))


def test_a_backup_is_private_and_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    write(file)
    assert file.stat().st_mode & 0o777 == 0o600
    with reading(file) as backup, backup.open("warehouse.dump") as dump:
        assert dump.read() == ROWS
    assert backup.manifest.databases == [DATABASE]
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_an_existing_file_stays_unless_it_is_to_be_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    file.write_text("mine")
    with pytest.raises(ConflictError, match="exists: choose another name, or --overwrite it"):
        write(file)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ConflictError, match="exists"):
        write(tmp_path / "link")
    assert file.read_text() == "mine"
    write(file, overwrite=True)
    assert zipfile.is_zipfile(file)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError(28, "No space left")])
def test_an_interrupted_backup_leaves_what_was_there_before(
    tmp_path: Path, error: BaseException | type[BaseException]
) -> None:
    file = tmp_path / "a.zip"
    file.write_text("mine")

    def interrupted() -> None:
        with writing(file, overwrite=True) as writer:
            writer.add("roles.sql", io.BytesIO(ROWS))
            raise error

    with pytest.raises((KeyboardInterrupt, ValueError, BackupError)):
        interrupted()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.zip", "mine")]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"none/a\.zip cannot be written: No such file"):
        write(tmp_path / "none" / "a.zip")


@pytest.mark.parametrize("part", ["roles.sql", "warehouse.dump", "manifest.json"])
def test_a_damaged_part_is_found_before_anything_is_restored(tmp_path: Path, part: str) -> None:
    file = tmp_path / "a.zip"
    write(file)
    with zipfile.ZipFile(file) as archive:
        begin = archive.getinfo(part).header_offset
    content = bytearray(file.read_bytes())
    content[begin + 30 + len(part) + 25] ^= 0xFF
    file.write_bytes(content)
    said = f"is damaged: {part} in it is not what was written"
    with pytest.raises(BackupError, match=said), reading(file):
        pass


def test_a_part_that_was_exchanged_with_its_own_checksum_is_found(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    write(file)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(file, "a") as archive:
        archive.writestr("roles.sql", "DROP ROLE a;")
    with pytest.raises(BackupError, match=r"is damaged: roles\.sql"), reading(file):
        pass


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read: No such file"), (b"PK\x03\x04 half of", "is no backup, or only the")],
)
def test_what_is_no_backup_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "a.zip"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BackupError, match=said), reading(file):
        pass


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ('{"format": 2, "other": 1}', "by a later version of temporaletl"),
        ("{}", "no backup"),
        ("[1", "no backup"),
    ],
)
def test_a_manifest_of_another_arrangement_is_refused(
    tmp_path: Path, manifest: str, said: str
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("manifest.json", manifest)
    with pytest.raises(BackupError, match=said), reading(tmp_path / "a.zip"):
        pass


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"postgresql": "99.1"}, r"of PostgreSQL 99\.1, made by temporaletl 7\.0, and here is"),
        (
            {
                "databases": [
                    msgspec.structs.replace(DATABASE, migrations={"a": [FIRST, "9999_later.sql"]})
                ]
            },
            r"has the migration 9999_later\.sql, made by temporaletl 7\.0, .* install that version",
        ),
    ],
)
def test_a_backup_of_a_later_version_is_refused_with_what_to_do(
    changed: dict[str, object], said: str
) -> None:
    check_restorable(MANIFEST)
    with pytest.raises(BackupError, match=said):
        check_restorable(msgspec.structs.replace(MANIFEST, **changed))


def test_no_manifest_is_read_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.zip")
    monkeypatch.setattr(backup_file, "_LARGEST_MANIFEST_BYTES", 100)
    with pytest.raises(BackupError, match="no backup"), reading(tmp_path / "a.zip"):
        pass
