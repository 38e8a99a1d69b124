import subprocess
import sysconfig
from pathlib import Path

import pytest
import requests

from temporaletl.embedded import temporal_command
from temporaletl.embedded.temporal_command import (
    TemporalCommandError,
    ensure_temporal,
    find_temporal,
)


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise requests.ConnectionError

    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(requests, "head", unreachable)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path / "scripts"))


def make_command(path: Path, code: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(0o755)
    return path


def test_the_command_on_the_path_comes_first(tmp_path: Path) -> None:
    cached = make_command(tmp_path / "cache/temporaletl/bin/temporal", "exit 0")
    assert find_temporal() == cached
    installed = make_command(tmp_path / "scripts/temporal", "exit 0")
    assert find_temporal() == installed
    on_path = make_command(tmp_path / "path/temporal", "exit 0")
    assert find_temporal() == on_path


def test_a_command_that_does_not_work_is_passed_over(tmp_path: Path) -> None:
    make_command(tmp_path / "path/temporal", "exit 1")
    assert find_temporal() is None
    cached = make_command(tmp_path / "cache/temporaletl/bin/temporal", "exit 0")
    assert ensure_temporal() == cached


def test_where_nothing_helps_the_error_says_what_to_do() -> None:
    with pytest.raises(
        TemporalCommandError, match=r"cannot be reached.*no Go.*embedded.*TEMPORAL_ADDRESS"
    ):
        ensure_temporal()


def test_go_builds_it_once(tmp_path: Path) -> None:
    make_command(
        tmp_path / "path/go",
        'if [ "$1" = install ]; then\n'
        '  printf \'#!/bin/sh\\nexit 0\\n\' >"$GOBIN/temporal"; /bin/chmod +x "$GOBIN/temporal"\n'
        f"  echo \"$@\" >>'{tmp_path}/builds'\n"
        "fi",
    )
    told: list[str] = []
    built = ensure_temporal(told.append)
    assert built == tmp_path / "cache/temporaletl/bin/temporal"
    assert ensure_temporal(told.append) == built
    assert (tmp_path / "builds").read_text().splitlines() == [
        f"install -ldflags=-s -w {temporal_command.GO_PACKAGE}"
    ]
    assert len(told) == 1
    assert "4 minutes" in told[0]
    assert sorted(path.name for path in (tmp_path / "cache/temporaletl").iterdir()) == [
        "bin",
        "temporal.lock",
    ]


def test_a_build_that_fails_leaves_nothing_but_what_the_next_one_goes_on_with(
    tmp_path: Path,
) -> None:
    make_command(
        tmp_path / "path/go",
        '[ "$1" = install ] || exit 0; printf "#!/bin/sh\nexit 0\n" >"$GOBIN/temporal"\n'
        '/bin/chmod +x "$GOBIN/temporal"; [ -e "$GOCACHE/half" ] && exit 0\n'
        '/bin/mkdir -p "$GOCACHE"; : >"$GOCACHE/half"; echo no disk >&2; exit 1',
    )
    with pytest.raises(TemporalCommandError, match="no disk"):
        ensure_temporal()
    assert not any((tmp_path / "cache/temporaletl/bin").iterdir())
    assert ensure_temporal() == tmp_path / "cache/temporaletl/bin/temporal"
    assert not list((tmp_path / "cache/temporaletl").glob("go*"))


def test_the_command_line_prints_the_path_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cached = make_command(tmp_path / "cache/temporaletl/bin/temporal", "exit 0")
    assert temporal_command.main() == 0
    assert capsys.readouterr().out == f"{cached}\n"
    cached.unlink()
    assert temporal_command.main() == 1


def test_a_hanging_command_does_not_hang_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("temporal", 30)

    make_command(tmp_path / "path/temporal", "exit 0")
    monkeypatch.setattr(subprocess, "run", hang)
    assert find_temporal() is None
