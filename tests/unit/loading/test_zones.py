import random
import struct
import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest

from temporaletl.worker.loading.encode import event_times
from temporaletl.worker.loading.zones import Offsets, UnknownZoneError

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def expected(moment: datetime, zone: str) -> tuple[datetime, datetime]:
    local = moment.astimezone(zoneinfo.ZoneInfo(zone)).replace(tzinfo=None)
    monday = local.date() - timedelta(days=local.weekday())
    return local, datetime.combine(monday, datetime.min.time())


def found(moments: list[datetime], names: list[str]) -> list[tuple[datetime, datetime]]:
    naive = EPOCH.replace(tzinfo=None)
    (pieces,) = event_times(moments, names)
    results = []
    for moment, piece in zip(moments, pieces, strict=True):
        _, utc, _, week, _, local = struct.unpack(">iqiiiq", piece)
        assert EPOCH + timedelta(microseconds=utc) == moment
        results.append((naive + timedelta(microseconds=local), naive + timedelta(days=week)))
    return results


@pytest.mark.parametrize(
    "zone",
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
        "Pacific/Apia",
        "Africa/Monrovia",
        "Europe/Amsterdam",
        "Asia/Kathmandu",
        "America/Sao_Paulo",
    ],
)
def test_wall_clocks_are_those_of_zoneinfo(zone: str) -> None:
    chance = random.Random(zone)  # noqa: S311 - not a secret
    first = datetime(1850, 1, 1, tzinfo=UTC)
    moments = [first + timedelta(seconds=chance.randrange(200 * 366 * 86_400)) for _ in range(3000)]
    assert found(moments, [zone] * len(moments)) == [expected(m, zone) for m in moments]


def test_every_second_around_a_change_is_right() -> None:
    for change in (datetime(2024, 3, 31, 1, tzinfo=UTC), datetime(2024, 10, 27, 1, tzinfo=UTC)):
        moments = [change + timedelta(seconds=n) for n in range(-120, 120)]
        zones = ["Europe/Berlin"] * len(moments)
        assert found(moments, zones) == [expected(m, "Europe/Berlin") for m in moments]


def test_every_zone_is_right_at_any_time() -> None:
    chance = random.Random(1)  # noqa: S311 - not a secret
    first = datetime(1900, 1, 1, tzinfo=UTC)
    for zone in sorted(zoneinfo.available_timezones()):
        moments = [first + timedelta(seconds=chance.randrange(4_300_000_000)) for _ in range(40)]
        assert found(moments, [zone] * len(moments)) == [expected(m, zone) for m in moments]


def test_neighbouring_days_are_worked_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    at = Offsets.at

    def counted(offsets: Offsets, second: int) -> int:
        looked.append(second)
        return at(offsets, second)

    monkeypatch.setattr(Offsets, "at", counted)
    offsets = Offsets(zoneinfo.ZoneInfo("Asia/Tokyo"))
    assert {offsets[day] for day in range(27)} == {9 * 3_600}
    assert len(looked) <= 27 / 2


def test_zones_may_mix_in_one_block() -> None:
    zones = ["UTC", "Asia/Tokyo", "+05:30", "America/New_York"] * 5
    moments = [EPOCH + timedelta(hours=7 * n) for n in range(len(zones))]
    for (local, _), moment, zone in zip(found(moments, zones), moments, zones, strict=True):
        if zone != "+05:30":
            assert local == expected(moment, zone)[0]
        else:
            assert local == moment.replace(tzinfo=None) + timedelta(hours=5, minutes=30)


@pytest.mark.parametrize(
    ("name", "minutes"),
    [
        ("+08:00", 480),
        ("-0330", -210),
        ("+05", 300),
        ("UTC+8", 480),
        ("UTC-03:30", -210),
        ("GMT+1", 60),
        ("UTC+00:00", 0),
        ("Z", 0),
        ("Etc/GMT+8", -480),
        ("Etc/UTC", 0),
    ],
)
def test_fixed_offsets_have_many_names(name: str, minutes: int) -> None:
    ((local, _),) = found([EPOCH], [name])
    assert local == EPOCH.replace(tzinfo=None) + timedelta(minutes=minutes)


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "Europe", "../etc", "+25:00", "8", "a\0b"])
def test_other_names_are_unknown(name: str) -> None:
    for _ in range(2):
        with pytest.raises(UnknownZoneError, match="unknown time zone"):
            event_times([EPOCH, EPOCH], ["UTC", name])


def test_the_ends_of_the_calendar_hold() -> None:
    first = datetime.min.replace(tzinfo=UTC)
    last = datetime.max.replace(tzinfo=UTC)
    assert found([first], ["Asia/Tokyo"]) == [expected(first, "Asia/Tokyo")]
    ((local, _),) = found([last], ["America/New_York"])
    assert local == last.replace(tzinfo=None) - timedelta(hours=5)
    for moment, zone in ((first, "America/New_York"), (last, "Asia/Tokyo")):
        with pytest.raises(OverflowError, match="years 1 to 9999"):
            found([moment], [zone])
