"""Accounts of Cloud and Server: generated, or recognized in recorded data."""

from random import Random
from typing import Any

from tests.fakes.jira.site import Personality, User

Json = dict[str, Any]

_GIVEN = [
    "Ada",
    "Björn",
    "Chloé",
    "Dmitri",
    "Émile",
    "Fatima",
    "Giorgos",
    "Hana",
    "Ivo",
    "José",
    "Kenji",
    "Łucja",
    "Mina",
    "Noor",
    "Ōba",
    "Priya",
    "Quentin",
    "Rosa",
    "Søren",
    "Tuğba",
    "Uma",
    "Václav",
    "Wei",
    "Ximena",
    "Yusuf",
    "Zoë",
]
_FAMILY = [
    "Ångström",
    "Brown",
    "Çelik",
    "Dvořák",
    "Eriksen",
    "Fernández",
    "García",
    "Hernández",
    "Ito",
    "Jansen",
    "Kowalski",
    "López",
    "Müller",
    "Nguyen",
    "O'Neill",
    "Petrović",
    "Quispe",
    "Rossi",
    "Świątek",
    "Tanaka",
    "Ünal",
    "Vega",
    "Weiß",
    "Xu",
    "Yamada",
    "김",
]
_ZONES = (
    "Europe/Helsinki",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "UTC",
    "America/Sao_Paulo",
    "Asia/Shanghai",
)
_SIZES = ("48x48", "24x24", "16x16", "32x32")


def make_users(count: int, personality: Personality, seed: int) -> list[User]:
    """Generate accounts: some hide their e-mail address, some left, a few are apps."""
    rng = Random(f"people {seed}")  # noqa: S311 - data, not secrets
    return [_make_user(number, personality, rng) for number in range(count)]


def _make_user(number: int, personality: Personality, rng: Random) -> User:
    given, family = rng.choice(_GIVEN), rng.choice(_FAMILY)
    app = number > 2 and rng.random() < 0.05
    display = f"Automation {number}" if app else f"{given} {family}"
    zone = rng.choice(_ZONES)
    slug = f"user{number:04d}"
    person: Json = {
        "self": "http://127.0.0.1/",
        "avatarUrls": {size: f"https://avatars.example/{slug}/{size}.png" for size in _SIZES},
        "displayName": display,
        "active": number == 0 or rng.random() > 0.08,
        "timeZone": zone,
    }
    if personality is Personality.CLOUD:
        account = f"{rng.randrange(16**6):06x}:{rng.randrange(16**32):032x}"
        person |= {"accountId": account, "accountType": "app" if app else "atlassian"}
        # The privacy setting: only some accounts show their address to others.
        if not app and rng.random() < 0.6:
            person["emailAddress"] = f"{slug}@example.com"
        return User(account, display, zone, person)
    key = slug if rng.random() < 0.8 else f"JIRAUSER{10000 + number}"
    person |= {"name": slug, "key": key}
    if rng.random() < 0.9:
        person["emailAddress"] = f"{slug}@example.com"
    return User(slug, display, zone, person)


def account_of(person: Json | None) -> str | None:
    """Return what identifies a person, on either kind of site; None when nothing does."""
    if not person:
        return None
    return person.get("accountId") or person.get("name") or person.get("key") or None


def as_seen_on(personality: Personality, person: Json) -> Json:
    """Return a recorded person as this kind of site would show it.

    What the record has stays as found; only identifiers of the other kind are replaced.
    """
    cloud = personality is Personality.CLOUD
    if cloud and "accountId" not in person:
        name = str(person.get("key") or person.get("name") or person.get("displayName") or "")
        kept = {key: value for key, value in person.items() if key not in {"name", "key"}}
        return {"accountId": f"recorded:{name}", "accountType": "atlassian", **kept}
    if not cloud and "name" not in person and "accountId" in person:
        account = str(person["accountId"])
        gone = {"accountId", "accountType"}
        kept = {key: value for key, value in person.items() if key not in gone}
        return {"name": account, "key": account, **kept}
    return person
