"""Who may read what of Launchpad, and what is said where somebody may not."""

import json
from typing import Any

import pytest

from temporaletl import ConfigurationError, CredentialsError, RecordError, SourceProtocolError
from tests.fakes.launchpad import Archive, expected_counts, generate
from tests.integration.job_reading import Read, Serve, pages_of, read, transformed
from tests.integration.launchpad_reading import ACCEPTED, STREAMS, TOKEN, events_in, jobs_of, served

__all__ = ["served"]

EACH = pytest.mark.parametrize("stream", STREAMS)
SECRETS = ("a-token-key", "a-token-secret", "another-secret")


def small(seed: int = 1) -> Archive:
    return generate(10, proposals=8, questions=6, seed=seed, people=3)


def tells_no_secret(error: BaseException) -> bool:
    told = "".join(map(repr, [error, error.__cause__, error.__context__, error.args]))
    return not any(secret in told for secret in SECRETS)


@EACH
async def test_a_token_shows_what_is_private_and_anonymous_access_does_not(
    served: Serve, stream: str
) -> None:
    archive = small()
    things: dict[int, Any] = {
        "bugs": archive.bugs,
        "merge_proposals": archive.proposals,
        "questions": archive.questions,
    }[stream]  # type: ignore[assignment]
    things[2].private = True
    served(archive, service={"accepted": [ACCEPTED]})
    anonymous = await read(await jobs_of(stream))
    served(archive, service={"accepted": [ACCEPTED]}, **TOKEN)
    known = await read(await jobs_of(stream))
    assert known.types == expected_counts(archive)[stream]
    hidden = set(known.events) - set(anonymous.events)
    assert {known.events[id_].parent_item_id for id_ in hidden} >= {"2"}
    assert "2" not in {event.parent_item_id for event in anonymous.events.values()}


@EACH
async def test_a_wrong_token_names_its_settings_and_tells_no_secret(
    served: Serve, stream: str
) -> None:
    settings = TOKEN | {"LP_ACCESS_TOKEN_SECRET": "another-secret"}
    served(small(), service={"accepted": [ACCEPTED]}, **settings)
    with pytest.raises(CredentialsError, match="LP_ACCESS_TOKEN_SECRET") as caught:
        await read(await jobs_of(stream))
    assert "launchpad" in str(caught.value)
    assert tells_no_secret(caught.value)


async def test_anonymous_access_to_a_closed_service_says_that_no_token_is_set(
    served: Serve,
) -> None:
    served(small(), service={"require_auth": True})
    with pytest.raises(CredentialsError, match=r"LP_CONSUMER_KEY.*none is set"):
        await read(await jobs_of("bugs"))


@EACH
async def test_a_token_revoked_in_the_middle_is_one_clear_error(served: Serve, stream: str) -> None:
    server = served(small(), service={"accepted": [ACCEPTED]}, **TOKEN)
    (job,) = await jobs_of(stream)
    async with pages_of(job, None, 3) as pages:
        await anext(pages)
        server.service.accepted = set()  # type: ignore[attr-defined]
        with pytest.raises(CredentialsError, match="LP_ACCESS_TOKEN_KEY") as caught:
            await anext(pages)
    assert tells_no_secret(caught.value)


@EACH
async def test_a_permission_taken_away_is_one_clear_error(served: Serve, stream: str) -> None:
    server = served(small(), **TOKEN)
    (job,) = await jobs_of(stream)
    async with pages_of(job, None, 3) as pages:
        await anext(pages)
        server.service.forbidden = True  # type: ignore[attr-defined]
        with pytest.raises(CredentialsError, match=r"launchpad.*403.*LP_ACCESS_TOKEN_KEY"):
            await anext(pages)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_a_bug_that_may_not_be_read_is_noted_and_hides_no_other(
    served: Serve, status: int
) -> None:
    archive = small()
    archive.edit.withhold("bugs/4", status)
    served(archive)
    found = await read(await jobs_of("bugs"))
    assert {record for record in found.records if record} == {str(n) for n in range(1, 11)} - {"4"}
    (reject,) = found.rejects
    assert (reject.stage, reject.key) == ("extract", "4")
    assert f"HTTP {status}" in reject.reason


@pytest.mark.parametrize(
    ("stream", "path"),
    [
        ("bugs", "bugs/3/activity"),
        ("bugs", "bugs/3/messages"),
        ("merge_proposals", "votes"),
        ("merge_proposals", "all_comments"),
        ("questions", "messages"),
    ],
)
async def test_a_part_that_may_not_be_read_is_noted_and_the_rest_loaded(
    served: Serve, stream: str, path: str
) -> None:
    archive = small()
    thing = {"merge_proposals": archive.proposals[3].path, "questions": archive.questions[3].path}
    archive.edit.withhold(f"{thing[stream]}/{path}" if stream in thing else path)
    served(archive)
    found = await read(await jobs_of(stream))
    (reject,) = found.rejects
    assert reject.key == "3"
    assert path.rpartition("/")[2].removeprefix("all_") in reject.reason
    assert found.records["3"] == 1
    (job,) = await jobs_of(stream)
    with pytest.raises(RecordError, match="load it again"):
        transformed(job, reject.payload)


async def test_what_superseded_a_proposal_may_be_hidden(served: Serve) -> None:
    archive = small()
    superseded = archive.edit.propose(next(iter(archive.people)), "alpha")
    successor = archive.edit.supersede(superseded, superseded.owner)
    archive.edit.withhold(successor.path, 404)
    served(archive)
    found = await read(await jobs_of("merge_proposals"))
    (reject,) = found.rejects
    assert reject.key == str(superseded.number)
    assert f"merge_proposal:{superseded.number}:created" in found.events


@EACH
async def test_people_hidden_from_us_leave_events_without_a_person(
    served: Serve, stream: str
) -> None:
    archive = small()
    hidden = next(iter(archive.people))
    served(archive)
    before = await read(await jobs_of(stream))
    archive.edit.redact(hidden)
    after = await read(await jobs_of(stream))
    assert after.types == before.types
    people = {event.person for event in after.events.values()}
    assert hidden not in people
    assert None in people


async def test_a_person_who_may_not_be_looked_at_keeps_the_name(served: Serve) -> None:
    archive = small()
    hidden = next(iter(archive.people))
    served(archive, LP_MEMBERS=" ".join(list(archive.people)[1:]))
    archive.edit.withhold(f"~{hidden}", 404)
    found = await read(await jobs_of("bugs"))
    theirs = [event for event in found.events.values() if event.person == hidden]
    assert theirs
    assert {event.timezone for event in theirs} == {"UTC"}


@EACH
async def test_a_member_whom_nobody_knows_is_noted_and_the_others_are_read(
    served: Serve, stream: str
) -> None:
    archive = small()
    served(archive, LP_MEMBERS=f"aaron-gone {' '.join(archive.people)}")
    found = await read(await jobs_of(stream))
    assert found.types == expected_counts(archive)[stream]
    (reject,) = found.rejects
    assert reject.key == "~aaron-gone"
    assert "LP_MEMBERS" in reject.reason
    (job,) = await jobs_of(stream)
    with pytest.raises(RecordError):
        transformed(job, reject.payload)


@EACH
async def test_a_job_none_of_whose_members_is_known_fails_and_names_them(
    served: Serve, stream: str
) -> None:
    served(small(), LP_MEMBERS="aaron-gone zoe-gone")
    with pytest.raises(ConfigurationError, match=r"aaron-gone.*zoe-gone.*LP_MEMBERS"):
        await read(await jobs_of(stream))


@EACH
async def test_a_quiet_run_does_not_fail_for_a_member_who_is_gone(
    served: Serve, stream: str
) -> None:
    archive = Archive(small().people.values(), small().targets.values())
    served(archive, LP_MEMBERS=f"aaron-gone {' '.join(archive.people)}")
    found = await read(await jobs_of(stream))
    assert not found.records
    assert not found.rejects


@EACH
async def test_a_target_that_is_not_there_is_a_setting_to_correct(
    served: Serve, stream: str
) -> None:
    served(small(), LP_MEMBERS="", LP_TARGETS="gamma")
    with pytest.raises(ConfigurationError, match=r"launchpad.*gamma.*LP_TARGETS"):
        await read(await jobs_of(stream))


async def test_a_renamed_target_is_followed(served: Serve) -> None:
    archive = small()
    archive.renamed["alfa"] = "alpha"
    served(archive, LP_MEMBERS="", LP_TARGETS="alfa")
    renamed = await read(await jobs_of("bugs"))
    found = await read(await jobs_of("bugs", targets=["alpha"]))
    assert found.events
    assert renamed.events == found.events


async def test_a_token_is_sent_to_no_other_place(served: Serve) -> None:
    other = served(small())
    service = served(small(), **TOKEN).service
    answer = service.answer

    def astray(request: Any) -> Any:
        response = answer(request)
        if request.path.endswith("/activity"):
            link = f'"start":0,"next_collection_link":"{other.url}/1.0/bugs/1/activity"'
            response.body = response.body.replace(b'"start":0', link.encode())
        return response

    service.answer = astray  # type: ignore[method-assign]
    other.traffic.clear()
    with pytest.raises(SourceProtocolError, match="LP_SERVICE_ROOT"):
        await read(await jobs_of("bugs"))
    assert other.traffic.requests == 0


async def test_an_address_that_is_no_launchpad_says_so(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served(small())
    monkeypatch.setenv("LP_SERVICE_ROOT", f"{server.url}/somewhere/else")
    with pytest.raises(SourceProtocolError, match="LP_SERVICE_ROOT"):
        await read(await jobs_of("bugs"))


async def test_a_bug_that_cannot_be_used_keeps_its_payload_and_can_be_mended(
    served: Serve,
) -> None:
    archive = small()
    archive.bugs[2].created = "yesterday"
    served(archive)
    (job,) = await jobs_of("bugs")
    kept: list[Any] = []
    found = Read()
    async with pages_of(job) as pages:
        async for page in pages:
            for record in page.records:
                try:
                    found.events |= events_in(transformed(job, record))
                except RecordError as error:
                    kept.append((record.key, str(error), record.raw))
    ((key, reason, raw),) = kept
    payload = json.loads(bytes(raw))
    assert key == "2"
    assert "date_created" in reason
    payload["bug"]["date_created"] = "2024-01-01T00:00:00+00:00"
    assert f"bug:{key}:created" in events_in(transformed(job, payload))


async def test_time_zones_and_names_of_people_come_along(served: Serve) -> None:
    archive = small()
    who = next(iter(archive.people))
    archive.people[who] |= {"time_zone": "Asia/Tokyo", "display_name": "Ann from Tokyo"}
    bug = archive.edit.report_bug(who, "alpha")
    served(archive)
    found = await read(await jobs_of("bugs"))
    created = found.events[f"bug:{bug.number}:created"]
    assert created.timezone == "Asia/Tokyo"
    assert created.person == who
    assert created.relation_type == "owner"
    assert created.relation_properties == {"name": who, "display_name": "Ann from Tokyo"}
