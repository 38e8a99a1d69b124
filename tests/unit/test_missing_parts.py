"""What tests/conftest.py holds for every test: no skip goes unnoticed, no `.env` is read."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"


def run_pytest(folder: Path, body: str, *arguments: str, ci: bool) -> tuple[int, str]:
    """Run one test with our conftest in a session of its own; exit status and output."""
    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    (folder / "tmp").mkdir(exist_ok=True)
    (folder / "test_it.py").write_text(f"import pytest\n{body}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=os.environ
        | {"CI": "true" if ci else "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        | {"TMPDIR": str(folder / "tmp")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


SKIPS = "def test_it(): pytest.skip('no Temporal server: none here')"
SKIPS_MODULE = "pytest.skip('no Trino', allow_module_level=True)"
NO_RECORDS = "def test_it(): pytest.skip('no recorded data in x')"
SLOW = "@pytest.mark.slow\ndef test_it(): assert False"


def test_a_missing_part_is_named_and_fails_only_in_ci(tmp_path: Path) -> None:
    for ci, expected in ((True, pytest.ExitCode.TESTS_FAILED), (False, pytest.ExitCode.OK)):
        status, output = run_pytest(tmp_path, SKIPS, ci=ci)
        assert status == expected
        assert "1 skipped: no Temporal server: none here" in output


@pytest.mark.parametrize("passes", [True, False])
def test_a_session_has_a_folder_of_its_own_and_keeps_it_for_what_failed(
    tmp_path: Path, passes: bool
) -> None:
    status, output = run_pytest(
        tmp_path,
        f"def test_it(tmp_path): print(f'in={{tmp_path}}'); assert {passes}",
        "-s",
        ci=False,
    )
    assert status == (0 if passes else 1)
    used = Path(output.partition("in=")[2].splitlines()[0])
    assert used.parts[: len(tmp_path.parts) + 1] == (*tmp_path.parts, "tmp")
    assert used.parent.exists() is not passes
    # The folder that all sessions of a user share, and close to others.
    assert list((tmp_path / "tmp").glob("pytest-of-*")) == []


def test_the_tests_of_a_module_run_in_one_process(tmp_path: Path) -> None:
    """So that what it serves for all of them is started once."""
    for name in ("test_a", "test_b"):
        (tmp_path / f"{name}.py").write_text(
            "import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test_it(n): assert True\n"
        )
    _, output = run_pytest(
        tmp_path, "", "-v", "-p", "xdist.plugin", "-n", "2", "--dist", "loadgroup", ci=False
    )
    ran = re.findall(r"\[(gw\d)\] .* PASSED (test_[ab])\.py", output)
    assert len(ran) == 8, output
    assert len(set(ran)) == 2


def test_a_module_that_skips_itself_counts_too(tmp_path: Path) -> None:
    status, output = run_pytest(tmp_path, SKIPS_MODULE, ci=True)
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "1 skipped: no Trino" in output


def test_recorded_data_may_be_missing_everywhere(tmp_path: Path) -> None:
    status, output = run_pytest(tmp_path, NO_RECORDS, ci=True)
    assert status == 0
    assert "missing parts" not in output


def test_slow_tests_run_on_request(tmp_path: Path) -> None:
    assert run_pytest(tmp_path, SLOW, ci=False)[0] == pytest.ExitCode.NO_TESTS_COLLECTED
    assert run_pytest(tmp_path, SLOW, "--slow", ci=False)[0] == pytest.ExitCode.TESTS_FAILED


def test_no_test_runs_where_a_developer_keeps_settings(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("JIRA_URL=https://a-developers-own.example.com\n")
    reads = "from pathlib import Path\ndef test_it(): assert not Path('.env').exists()"
    assert run_pytest(tmp_path, reads, ci=True)[0] == 0
