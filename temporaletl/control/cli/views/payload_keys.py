"""`etl key`: output of payload keys."""

from pydantic import SecretStr

from temporaletl.control.cli.output import (
    add_row,
    count,
    make_table,
    print_json,
    print_secret,
    print_table,
    say,
)
from temporaletl.control.cli.session import begin, call
from temporaletl.control.operations import payload_keys
from temporaletl.temporal.payload_keys import check_id, generate_key


def generate(key_id: str) -> None:
    """Print a new key alone on standard output, for a file to take."""
    begin()
    print_secret(SecretStr(f"{check_id(key_id)}:{generate_key()}"))


def print_keys(*, as_json: bool) -> None:
    """List the payload keys in use, and those of this process that are not yet."""
    keys = call(payload_keys.list_keys)
    if as_json:
        in_use = [one.model_dump(mode="json", exclude={"check_value"}) for one in keys.in_use]
        print_json({"here": list(keys.here), "in_use": in_use})
        return
    if not keys.in_use and not keys.here:
        say("nothing is encrypted: `etl key generate ID` makes a key for ETL_PAYLOAD_KEYS")
        return
    table = make_table(
        *("id", "here", "encrypts", "results", "first used", "last used"),
        right=("results",),
        below=("first used", "last used"),
    )
    known = {one.key_id: one for one in keys.in_use}
    for key_id in [*known, *(one for one in keys.here if one not in known)]:
        one, first = known.get(key_id), keys.here[:1] == (key_id,)
        add_row(
            table,
            *(key_id, "yes" if key_id in keys.here else "no", "yes" if first else ""),
            one.results if one else 0,
            *((one.first_used_at, one.last_used_at) if one else ("never", "never")),
        )
    print_table(table)


def retire(key_id: str, *, force: bool) -> None:
    """Retire a payload key."""
    done = call(payload_keys.retire_key, key_id, force=force)
    say(
        f"retired payload key {key_id}: {count(done.results, 'result')} and "
        f"{count(done.schedules, 'schedule')} encrypted anew; services start without it"
    )
