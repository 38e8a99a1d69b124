"""Steps that branch, wait and compute: condition, switch, delay, transform."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from pydantic import JsonValue

from temporaletl.clock import utc_now
from temporaletl.errors import PermanentError
from temporaletl.worker.pipelines.expressions.evaluation import EvaluationError
from temporaletl.worker.pipelines.expressions.grammar import Expression
from temporaletl.worker.pipelines.messages import CloseRequest, Wait
from temporaletl.worker.pipelines.nodes.logic import (
    DEFAULT_CASE,
    ConditionData,
    DelayData,
    SwitchData,
    TransformData,
)
from temporaletl.worker.pipelines.steps.context import NodeContext, Produced, Waiting, as_object

_LONGEST_DELAY = timedelta(days=365)


async def run_condition(context: NodeContext[ConditionData]) -> Produced:
    """Take the edges `true` or `false`, by the condition's value as Python judges it."""
    condition = context.parse(context.data.condition)
    holds = await context.run(f"bool({condition.code})", [condition])
    return Produced(handles=("true" if holds else "false",), passes_input=True)


async def run_switch(context: NodeContext[SwitchData]) -> Produced:
    """Take the edges of the first case that holds; those behind it are not evaluated."""
    cases = [context.parse(case.when) for case in context.data.cases]
    code = "".join(f"{index} if {case.code} else " for index, case in enumerate(cases))
    chosen = await context.run(f"({code}-1)", cases)
    assert isinstance(chosen, int)  # noqa: S101 - of the code above
    name = context.data.cases[chosen].name if chosen >= 0 else DEFAULT_CASE
    return Produced(handles=(name,), passes_input=True, details={"case": name})


async def run_transform(context: NodeContext[TransformData]) -> Produced:
    """Make a value of others: an object, a list, or groups of one."""
    data = context.data
    match data.transform_type:
        case "mapping" if data.over is None:
            fields = _parsed(context, data.mapping or {})
            return Produced(await context.run(as_object(fields), [*fields.values()]))
        case "mapping":
            fields = _parsed(context, data.mapping or {}, "item", "index")
            return Produced(await _over(context, as_object(fields), [*fields.values()]))
        case "filter":
            return Produced(await _over(context, "item", []))
        case "aggregate":
            return Produced(await _aggregate(context))


def _parsed(
    context: NodeContext[TransformData], texts: Mapping[str, str], *names: str
) -> dict[str, Expression]:
    return {name: context.parse(text, *names) for name, text in texts.items()}


async def _over(
    context: NodeContext[TransformData], code: str, expressions: list[Expression]
) -> JsonValue:
    """The values of `code` for each item of the list that passes."""
    over = context.parse(context.data.over or "inputs")
    where = context.parse(context.data.where or "True", "item", "index")
    return await context.run(
        f"[{code} for index, item in enumerate({over.code}) if {where.code}]",
        [*expressions, over, where],
    )


async def _aggregate(context: NodeContext[TransformData]) -> JsonValue:
    data = context.data
    by = _parsed(context, data.by or {}, "item", "index")
    fields = _parsed(context, data.fields or {}, "rows")
    over = context.parse(data.over or "inputs")
    where = context.parse(data.where or "True", "item", "index")
    # Names of definitions do not begin with _.
    code = f"""
_groups = {{}}
for index, item in enumerate({over.code}):
    if {where.code}:
        _values = {as_object(by)}
        _groups.setdefault(repr(_values), (_values, []))[1].append(item)
[{{**_values, **{as_object(fields)}}} for _values, rows in _groups.values()]
"""
    return await context.run(code, [*by.values(), *fields.values(), over, where])


async def run_delay(context: NodeContext[DelayData]) -> Waiting:
    """Wait for some seconds, or until a time that an expression gives, in ISO 8601."""
    data = context.data
    if data.seconds is not None:
        return Waiting(Wait(until=utc_now() + timedelta(seconds=data.seconds)))
    until = _time_of(await context.value(data.until or ""))
    if until - utc_now() > _LONGEST_DELAY:
        raise PermanentError(f"until {until.isoformat()} is longer than a year")
    return Waiting(Wait(until=until), details={"until": until.isoformat()})


async def close_delay(_context: NodeContext[DelayData], _end: CloseRequest) -> Produced:
    """Pass on what it got."""
    return Produced(passes_input=True)


def _time_of(value: JsonValue) -> datetime:
    if not isinstance(value, str):
        raise EvaluationError(f"until is a time such as 2026-01-31T08:00:00Z, not {value!r}")
    try:
        found = datetime.fromisoformat(value)
    except ValueError as error:
        raise EvaluationError(f"until: {error}") from None
    try:
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except OverflowError:
        raise EvaluationError(f"until: {value} is beyond all years of UTC") from None
