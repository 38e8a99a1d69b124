"""Source `trino` in the list of sources: its streams are its file's."""

from pathlib import Path

import pytest

from temporaletl import ConfigurationError
from temporaletl.control.operations.sources import find_source, registered
from temporaletl.messages import QueuerInput
from temporaletl.queuer.planning import check_request


def test_without_a_file_the_list_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRINO_STREAMS_FILE", raising=False)
    (stream,) = next(source.streams for source in registered() if source.name == "trino")
    assert stream.fault is not None
    assert "TRINO_STREAMS_FILE is not set" in stream.fault


def test_the_streams_are_those_of_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "streams.toml"
    table = 'sql = "SELECT 1"\nevent_time = "t"\nevent_id = "i"\nevent_type = "seen"\n'
    file.write_text(f"[orders]\n{table}[refunds]\n{table}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRINO_STREAMS_FILE", str(file))
    streams = next(source.streams for source in registered() if source.name == "trino")
    assert [(stream.name, stream.tables, stream.fault) for stream in streams] == [
        ("orders", ("events",), None),
        ("refunds", ("events",), None),
    ]
    assert find_source("trino").streams == ("orders", "refunds")
    with pytest.raises(ConfigurationError, match="its streams: orders, refunds"):
        check_request(QueuerInput(source="trino", streams=("customers",)))
