"""Rows that the source no longer has."""

from tests.integration.flows.services import Services


def ids(services: Services) -> list[str]:
    return [row for (row,) in services.rows("SELECT event_id FROM events ORDER BY 1")]


async def test_events_missing_from_a_complete_set_are_deleted_and_counted(
    services: Services,
) -> None:
    await services.run(jobs=2, size=3)
    summary = await services.run(jobs=2, size=3, complete=True, missing=1)
    assert (summary.deleted, summary.rows.unchanged) == (2, 4)
    assert ids(services) == ["0:0", "0:2", "1:0", "1:2"]
    [(pages,)] = services.rows("SELECT sum(deleted)::int FROM etl_pages")
    assert pages == 2


async def test_a_complete_set_covers_its_own_prefix_alone(services: Services) -> None:
    await services.run(jobs=12, size=2)  # jobs 1, 10 and 11 begin with the same digit
    await services.run(jobs=2, size=2, complete=True, missing=0)
    assert [row for row in ids(services) if row.endswith(":0")] == [
        f"{job}:0" for job in (10, 11, 2, 3, 4, 5, 6, 7, 8, 9)
    ]


async def test_without_a_complete_set_nothing_is_deleted(services: Services) -> None:
    await services.run(size=3)
    summary = await services.run(size=3, missing=1)
    assert summary.deleted == 0
    assert len(ids(services)) == 3


async def test_a_repeated_complete_set_deletes_nothing(services: Services) -> None:
    await services.run(size=3, complete=True)
    summary = await services.run(size=3, complete=True)
    assert (summary.deleted, summary.rows.unchanged) == (0, 3)
