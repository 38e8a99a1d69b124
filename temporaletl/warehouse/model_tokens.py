"""Tokens of language models: budgets that all workers share, and what nodes took of them.

Tokens are reserved before a call, and settled when it is known what the call took. Those of a call
whose end nobody knows stay reserved: they may have been spent.
"""

from datetime import date
from typing import Any, NamedTuple

from psycopg.rows import class_row

from temporaletl.errors import PermanentError
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.sessions import only_row


class TokenBudgetError(PermanentError):
    """A call that might take more tokens than a budget has left; nothing was sent."""


class Reservation(NamedTuple):
    """Tokens that a call may take, counted on the day on which it began."""

    execution_id: str
    node: str
    tokens: int
    day: date


class ModelUse(NamedTuple):
    """What a node took of a language model, with its failed attempts and all items of a map."""

    model: str | None
    calls: int
    prompt_tokens: int
    completion_tokens: int
    reserved_tokens: int


def reserve_tokens(
    warehouse: Warehouse,
    execution_id: str,
    node: str,
    tokens: int,
    *,
    most_of_execution: int,
    most_of_day: int,
) -> Reservation:
    """Reserve the tokens of a call; of two at once, one gets the last of a budget.

    Raises:
        TokenBudgetError: a budget lacks them; nothing is reserved.
    """
    values = {
        "execution_id": execution_id,
        "node": node,
        "tokens": tokens,
        "most": most_of_day,
    }
    with warehouse.connection() as connection:
        # The day's row is locked until the end: others wait for it, whatever their execution.
        granted: Any = connection.execute(
            """
            INSERT INTO pipeline_token_days AS d (day, tokens)
            SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date, %(tokens)s
            WHERE %(tokens)s <= %(most)s
            ON CONFLICT (day) DO UPDATE SET tokens = d.tokens + excluded.tokens
            WHERE d.tokens + excluded.tokens <= %(most)s
            RETURNING day
            """,
            values,
        ).fetchone()
        if granted is None:
            raise _lacking("day", "PIPELINE_MODEL_DAY_TOKENS", most_of_day, tokens)
        connection.execute(
            """
            INSERT INTO pipeline_model_use AS u (execution_id, node, reserved_tokens)
            VALUES (%(execution_id)s, %(node)s, %(tokens)s)
            ON CONFLICT (execution_id, node) DO UPDATE
            SET reserved_tokens = u.reserved_tokens + excluded.reserved_tokens
            """,
            values,
        )
        taken = connection.execute(
            "SELECT sum(prompt_tokens + completion_tokens + reserved_tokens)::bigint "
            "FROM pipeline_model_use WHERE execution_id = %(execution_id)s",
            values,
        )
        if int(only_row(taken)[0]) > most_of_execution:
            raise _lacking(
                "execution", "PIPELINE_MODEL_EXECUTION_TOKENS", most_of_execution, tokens
            )
    return Reservation(execution_id, node, tokens, granted[0])


def _lacking(of: str, setting: str, most: int, tokens: int) -> TokenBudgetError:
    return TokenBudgetError(
        f"the budget of this {of} is used up: {setting} = {most:,} has no {tokens:,} tokens left, "
        "which this call might take"
    )


def settle_tokens(
    warehouse: Warehouse,
    reservation: Reservation,
    *,
    model: str | None = None,
    prompt_tokens: int = 0,
    completion_tokens: int = 0,
) -> None:
    """Replace a reservation by what the call took; without a `model`, it was not answered."""
    values = {
        **reservation._asdict(),
        "model": model,
        "prompt": prompt_tokens,
        "completion": completion_tokens,
    }
    with warehouse.connection() as connection:
        connection.execute(
            "UPDATE pipeline_token_days SET tokens = tokens - %(tokens)s + %(prompt)s "
            "+ %(completion)s WHERE day = %(day)s",
            values,
        )
        connection.execute(
            """
            UPDATE pipeline_model_use
            SET model = coalesce(%(model)s::text, model),
                calls = calls + (%(model)s::text IS NOT NULL)::integer,
                prompt_tokens = prompt_tokens + %(prompt)s,
                completion_tokens = completion_tokens + %(completion)s,
                reserved_tokens = reserved_tokens - %(tokens)s
            WHERE execution_id = %(execution_id)s AND node = %(node)s
            """,
            values,
        )


def model_use_of(connection: Connection, execution_id: str, node: str) -> ModelUse | None:
    """What a node took of a language model; None where it asked none."""
    return (
        connection.cursor(row_factory=class_row(ModelUse))
        .execute(
            "SELECT model, calls, prompt_tokens, completion_tokens, reserved_tokens "
            "FROM pipeline_model_use WHERE execution_id = %s AND node = %s",
            [execution_id, node],
        )
        .fetchone()
    )
