"""What services log of failures, beside the SDK: no secret, and no text of an error but our own."""

import pytest

from temporaletl.secrets import REDACTED, remember_secret
from tests.integration.flows import numbers
from tests.integration.flows.services import Services
from tests.unit.test_logs import Terminal, _restored, configured, lines

__all__ = ["_restored"]


async def test_the_sdk_logs_a_failure_without_its_text_and_our_own_line_has_it(
    services: Services,
) -> None:
    stream = configured()
    assert (await services.run(odd=True)).state == "failed"
    sdk = [one for one in lines(stream) if one["logger"].startswith("temporalio")]
    assert any(one.get("error_type") == "ApplicationError" for one in sdk)
    assert numbers.SECRET not in str(sdk)
    [ours, *_] = [one for one in lines(stream) if one["event"] == "activity_failed"]
    assert ours["error"] == f"'no {numbers.SECRET}'"


@pytest.mark.parametrize("terminal", [False, True])
async def test_no_line_about_a_failure_has_a_secret(services: Services, *, terminal: bool) -> None:
    remember_secret(numbers.SECRET)
    stream = configured(Terminal() if terminal else None)
    assert (await services.run(odd=True)).state == "failed"
    assert "activity_failed" in stream.getvalue()
    assert REDACTED in stream.getvalue()
    assert numbers.SECRET not in stream.getvalue()
