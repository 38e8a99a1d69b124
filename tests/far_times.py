"""Times of schedules that do not come while tests run: all are two days away or more.

A schedule that falls due while its test runs, or another one that counts runs, changes what both
see. Their namespace is looked through for such ones once its tests have ended.
"""

from datetime import UTC, datetime, timedelta

from temporalio.api.schedule.v1 import ScheduleListInfo
from temporalio.client import Client

_FAR = timedelta(hours=12)
_NOW = datetime.now(UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Of a week that begins with Sunday, as cron has it.
_NAMES = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_FIRST = next(
    day for day in ((_NOW.isoweekday() + ahead) % 7 for ahead in (3, 4)) if day < len(_NAMES) - 1
)

#: Two days of the week, one after the other, and both: as `etl schedule` takes them.
FAR_DAY, FARTHER_DAY = str(_FIRST), str(_FIRST + 1)
FAR_DAYS = f"{FAR_DAY}-{FARTHER_DAY}"
#: As it shows them.
FAR_DAY_NAME = _NAMES[_FIRST]
FAR_DAYS_NAME = f"{FAR_DAY_NAME}-{_NAMES[_FIRST + 1]}"
#: An interval of whole days, of those that Temporal counts from 1970 on.
FAR_INTERVAL = timedelta(days=max(range(300, 366), key=lambda days: -(_NOW - _EPOCH).days % days))


async def assert_far(client: Client) -> None:
    """Assert that no schedule of a namespace, deleted ones included, was due within hours."""
    # They are workflows of a division of their own, whose memos say when they are due.
    async for one in client.list_workflows("TemporalNamespaceDivision = 'TemporalScheduler'"):
        told = ScheduleListInfo.FromString(one.raw_info.memo.fields["ScheduleInfo"].data)
        due = [time.ToDatetime(UTC) for time in told.future_action_times]
        near = [f"{time:%a %H:%M}" for time in due if time < one.start_time + _FAR]
        assert not near, f"{one.id} falls due on {near[0]} while tests run: see {__name__}"
