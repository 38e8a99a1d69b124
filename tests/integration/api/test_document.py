"""The application keeps to its OpenAPI document, whatever is sent to it."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.integration.api.in_process import Served
from tests.waiting import until

_SETTINGS = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("phases", "examples"),
    [
        ("examples,fuzzing", 2),
        pytest.param("examples,coverage,fuzzing,stateful", 10, marks=pytest.mark.slow),
    ],
    ids=["few", "many"],
)
async def test_no_request_shows_a_fault_or_another_answer_than_documented(
    served: Served, tmp_path: Path, phases: str, examples: int
) -> None:
    served = await served.token_of("operate")  # of its own: what is sent may revoke it
    body = {"source": "numbers", "params": {"size": 1}}
    run = (await served("POST", "/api/v1/sync/full", json=body)).json()["workflowId"]
    await until(lambda: _is_there(served, run))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", _SETTINGS, "run"),
        *(f"{served.address}/api/v1/openapi.json", "--checks", "all", "--max-examples"),
        *(str(examples), "--generation-deterministic", "--continue-on-failure", "--no-color"),
        *("--workers", "2", "--phases", phases),
        *("-H", f"Authorization: {served.headers['Authorization']}"),
        cwd=tmp_path,
        env={**os.environ, "RUN": run},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(800):
            said = (await process.stdout.read()).decode()
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, said


async def _is_there(served: Served, run: str) -> bool:
    answer = await served("GET", f"/api/v1/runs/{run}")
    return answer.status_code == 200 and answer.json()["run"]["state"] == "completed"
