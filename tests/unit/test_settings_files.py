"""Files of settings, edited: other lines stay, values come back as they were."""

import io
import tomllib
from pathlib import Path

import pytest
from dotenv import dotenv_values

from temporaletl.control.operations.settings_files import (
    with_connection,
    with_variables,
    write_files,
)
from temporaletl.errors import ConfigurationError

_FILE = Path("a-file")


@pytest.mark.parametrize(
    "value",
    [
        *("plain", "a b", "it's", 'a"b', "a\\b", "#no comment", "a$b", "${HOME}", "$${A:-b}", "ä"),
        *("-----BEGIN KEY-----\nabc\n-----END KEY-----", "\\'", "`x`", "a=b"),
    ],
)
def test_a_value_is_read_from_dotenv_as_it_was_written(value: str) -> None:
    before = "# first\nA=1\n\nB='x\ny' # why\nexport C=3"
    text = with_variables(before, {"NEW": value, "A": value}, file=_FILE)
    assert dotenv_values(stream=io.StringIO(text)) == {
        "A": value,
        "B": "x\ny",
        "C": "3",
        "NEW": value,
    }
    assert text.startswith("# first\nA=")
    assert "\n\nB='x\ny' # why\nexport C=3\nNEW=" in text
    assert with_variables(text, {"NEW": value}, file=_FILE) == text


def test_a_value_that_cannot_stand_in_dotenv_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigurationError, match=r"^a-file: the value of NEW cannot stand in it$"):
        with_variables("", {"NEW": "a\rb"}, file=_FILE)


_SECTION = {"source": "jira", "JIRA_JQL": 'a "b" \\ ü', "JIRA_API_TOKEN": {"env": "TOKEN"}}


@pytest.mark.parametrize(
    "before",
    [
        "",
        "# mine\n[other]\nsource = 'trino'  # so",
        "[acme]\nsource = 'trino'\n[other]\nsource = 'trino'\n",
        "[other]\nsource = 'trino'\n\n[ acme ]\nA = '''\nx'''\n",
    ],
)
def test_a_connection_is_added_or_replaced_beside_the_others(before: str) -> None:
    text = with_connection(before, "acme", _SECTION, file=_FILE)
    assert tomllib.loads(text) == {**tomllib.loads(before), "acme": _SECTION}
    assert ("# mine" in text, "# so" in text) == ("# mine" in before, "# so" in before)
    assert tomllib.loads(with_connection(text, "acme", _SECTION, file=_FILE)) == tomllib.loads(text)


@pytest.mark.parametrize("before", ["[acme", 'acme = { source = "jira" }\n', "acme.source = 'x'\n"])
def test_a_file_that_is_written_otherwise_is_left_as_it_is(before: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is no TOML|must be changed by hand"):
        with_connection(before, "acme", _SECTION, file=_FILE)


def test_files_are_written_all_or_none(tmp_path: Path) -> None:
    first, link = tmp_path / "first", tmp_path / "link"
    (tmp_path / "real").write_text("before")
    (tmp_path / "real").chmod(0o640)
    link.symlink_to("real")
    with pytest.raises(ConfigurationError, match="cannot be written: No such file or directory"):
        write_files({first: "a", tmp_path / "nowhere" / "second": "b"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
    write_files({first: "a", link: "b"})
    assert (first.read_text(), (tmp_path / "real").read_text(), link.is_symlink()) == (
        *("a", "b", True),
    )
    assert [path.stat().st_mode & 0o777 for path in (first, link)] == [0o600, 0o640]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "link", "real"]
