"""Who Launchpad says we are, and what that account sees of what the settings name."""

import pytest

from temporaletl import CredentialsError
from temporaletl.external.launchpad.account import launchpad_account
from tests.fakes.launchpad import generate
from tests.integration.job_reading import Serve, hold_until_in_flight
from tests.integration.launchpad_reading import ACCEPTED, TOKEN, served

__all__ = ["served"]


def test_the_account_is_the_person_behind_the_token(served: Serve) -> None:
    archive = generate(5, people=3)
    ann, *_ = archive.people
    served(archive, service={"accepted": [ACCEPTED]}, **TOKEN)
    view = launchpad_account()
    assert view is not None
    assert view.account == ann
    assert view.containers == {f"~{name}" for name in archive.people}


def test_without_a_token_it_is_anonymous_and_sees_what_everybody_does(served: Serve) -> None:
    archive = generate(5, people=3)
    hidden, *others = archive.people
    archive.withheld[f"~{hidden}"] = 404
    together = hold_until_in_flight(served(archive), 3)
    view = launchpad_account()
    assert together.is_set()
    assert view is not None
    assert view.account == "anonymous"
    assert view.containers == {f"~{name}" for name in others}


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_token_that_stands_for_nobody_is_refused_by_the_names_of_its_settings(
    served: Serve, status: int
) -> None:
    archive = generate(5, people=3)
    archive.withheld[f"~{next(iter(archive.people))}"] = status
    served(archive, service={"accepted": [ACCEPTED]}, **TOKEN)
    with pytest.raises(CredentialsError, match="LP_ACCESS_TOKEN_KEY"):
        launchpad_account()


def test_an_expired_token_is_refused(served: Serve) -> None:
    served(generate(5, people=3), service={"accepted": []}, **TOKEN)
    with pytest.raises(CredentialsError, match="LP_ACCESS_TOKEN_KEY"):
        launchpad_account()
