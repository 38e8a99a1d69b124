"""Generation of orgs from a seed."""

import random
from datetime import timedelta

from tests.fakes.salesforce.org import Org, timestamp
from tests.fakes.salesforce.row_tests import Row

_STATUSES = ("New", "Working", "Escalated", "Closed")
_STAGES = ("Prospecting", "Proposal", "Negotiation", "Closed Won", "Closed Lost")
_ZONES = ("America/Los_Angeles", "Europe/Berlin", "Asia/Kolkata", "GMT", "Australia/Sydney")
_SUBJECTS = (
    'Printer says "PC LOAD LETTER"',
    "Cannot log in, again",
    "Überweisung fehlt; 你好 👋",
    "Two lines\nof a subject",
    "Plain",
)
_DAYS = 500


def generate(records: int, *, seed: int = 0, users: int = 20) -> Org:
    """Return an org of so many cases, half as many tasks, a quarter as many opportunities and
    calendar entries each, with their histories and comments; one in fifty is deleted.
    """
    draw = random.Random(seed)  # noqa: S311 - made-up data
    org = Org()
    people = [_user(org, draw, number) for number in range(users)]
    for number in range(records):
        _case(org, draw, people, number)
        if number % 2 == 0:
            _task(org, draw, people)
        if number % 4 == 0:
            _opportunity(org, draw, people)
            _calendar(org, draw, people)
    return org


def _user(org: Org, draw: random.Random, number: int) -> Row:
    name = f"person{number}"
    return org.add(
        "User",
        timestamp(draw.uniform(0, 5)),
        Username=f"{name}@example.com",
        Name=f"Person {number}",
        FirstName="Person",
        LastName=str(number),
        Email=f"{name}@example.com",
        EmployeeNumber=None if number % 7 == 6 else f"E{1000 + number}",
        TimeZoneSidKey=_ZONES[number % len(_ZONES)],
        UserType="Standard",
        IsActive=number % 9 != 8,
        Launchpad_ID__c=f"lp-{name}" if number % 2 == 0 else None,
        Jira_Account__c=f"jira-{name}" if number % 3 == 0 else None,
    )


def _ends(org: Org, draw: random.Random, people: list[Row], row: Row, days: float) -> None:
    if draw.random() < 0.02:
        org.delete(row, timestamp(days + draw.uniform(0.1, 20)), draw.choice(people)["Id"])


def _case(org: Org, draw: random.Random, people: list[Row], number: int) -> None:
    days = draw.uniform(5, _DAYS)
    row = org.add(
        "Case",
        timestamp(days),
        by=draw.choice(people)["Id"],
        OwnerId=draw.choice(people)["Id"],
        CaseNumber=f"{number + 1000:08d}",
        Subject=draw.choice(_SUBJECTS),
        Description=f"Description of {number},\nin lines." if number % 3 else None,
        Status="New",
        Priority=draw.choice(("High", "Medium", "Low")),
        Origin=draw.choice(("Web", "Phone", "Email")),
    )
    for _ in range(draw.randrange(4)):
        days += draw.uniform(0.01, 10)
        by = draw.choice(people)["Id"]
        match draw.randrange(5):
            case 0:
                org.change(row, timestamp(days), by, OwnerId=draw.choice(people)["Id"])
            case 1:
                org.change(row, timestamp(days), by, Priority=draw.choice(("High", "Low")))
            case 2:
                org.change(row, timestamp(days), by, IsEscalated=True)
            case _:
                status = draw.choice(_STATUSES)
                closed = status == "Closed"
                at = timestamp(days)
                org.change(row, at, by, Status=status, IsClosed=closed)
                row["ClosedDate"] = row["SystemModstamp"] if closed else None
    for _ in range(draw.randrange(3)):
        org.add(
            "CaseComment",
            timestamp(days + draw.uniform(0.01, 10)),
            by=draw.choice(people)["Id"],
            ParentId=row["Id"],
            CommentBody=draw.choice(('He said "no", twice', "a\nb,c", "ok")),
            IsPublished=draw.random() < 0.5,
        )
    _ends(org, draw, people, row, days)


def _opportunity(org: Org, draw: random.Random, people: list[Row]) -> None:
    days = draw.uniform(5, _DAYS)
    row = org.add(
        "Opportunity",
        timestamp(days),
        by=draw.choice(people)["Id"],
        Name=f"Deal {draw.randrange(10_000)}",
        StageName=_STAGES[0],
        Type="New Business",
        LeadSource=draw.choice(("Web", "Partner", None)),
        Amount=draw.choice((None, float(draw.randrange(1, 500) * 1000), 1234.56)),
        Probability=10.0,
        CloseDate=str(timestamp(days + 90).date()),
        ForecastCategory="Pipeline",
        ForecastCategoryName="Pipeline",
    )
    for _ in range(draw.randrange(4)):
        days += draw.uniform(0.01, 10)
        by = draw.choice(people)["Id"]
        if draw.random() < 0.4:
            org.change(row, timestamp(days), by, Amount=float(draw.randrange(1, 900) * 100))
        else:
            stage = draw.randrange(1, len(_STAGES))
            won, closed = stage == 3, stage >= 3
            org.change(
                row, timestamp(days), by, StageName=_STAGES[stage], IsWon=won, IsClosed=closed
            )
    _ends(org, draw, people, row, days)


def _task(org: Org, draw: random.Random, people: list[Row]) -> None:
    days = draw.uniform(5, _DAYS)
    call = draw.random() < 0.3
    row = org.add(
        "Task",
        timestamp(days),
        by=draw.choice(people)["Id"],
        OwnerId=draw.choice(people)["Id"],
        Subject=draw.choice(("Call", "Email", "Send quote")),
        Status="Not Started",
        Priority="Normal",
        TaskSubtype="Call" if call else "Task",
        CallType="Outbound" if call else None,
        CallDurationInSeconds=draw.randrange(600) if call else None,
        ActivityDate=str(timestamp(days + 3).date()),
        IsArchived=draw.random() < 0.1,
    )
    if draw.random() < 0.5:
        at = timestamp(days + draw.uniform(0.1, 5))
        org.change(row, at, draw.choice(people)["Id"], Status="Completed", IsClosed=True)
        row["CompletedDateTime"] = row["SystemModstamp"]
    _ends(org, draw, people, row, days + 5)


def _calendar(org: Org, draw: random.Random, people: list[Row]) -> None:
    days = draw.uniform(5, _DAYS)
    starts = timestamp(days + 7)
    minutes = draw.choice((15, 30, 60))
    row = org.add(
        "Event",
        timestamp(days),
        by=draw.choice(people)["Id"],
        Subject="Meeting",
        Location=draw.choice(("Room 1", None)),
        ShowAs="Busy",
        EventSubtype="Event",
        StartDateTime=starts.strftime("%Y-%m-%dT%H:%M:%S.000+0000"),
        EndDateTime=(starts + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S.000+0000"),
        DurationInMinutes=minutes,
        ActivityDate=str(starts.date()),
    )
    _ends(org, draw, people, row, days)
