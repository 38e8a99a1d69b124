"""Runs, over the API: started, listed, shown, paused, resumed and cancelled."""

from collections.abc import Callable

from pydantic import AliasGenerator, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from temporaletl.control.client.api import Api
from temporaletl.control.client.following import RemoteRun, StartedRun
from temporaletl.control.client.operations import over_api
from temporaletl.control.operations.control import Action, Controlled, Kind, control_run
from temporaletl.control.operations.details import Details, run_details, run_of
from temporaletl.control.operations.history import RunFilter, read_run_log, recent_runs
from temporaletl.control.operations.progress import (
    FollowedRun,
    follow_run,
    start_followed,
    start_retry,
)
from temporaletl.control.operations.reports import RunReport
from temporaletl.control.operations.status import Runs
from temporaletl.messages import OpenState, QueuerInput
from temporaletl.warehouse.run_log import RunLogTail
from temporaletl.warehouse.runs import Engine


class _Accepted(BaseModel):
    model_config = ConfigDict(alias_generator=AliasGenerator(validation_alias=to_camel))

    kind: Kind
    workflow_id: str
    engine: Engine
    action: Action
    state: OpenState | None
    jobs_running: int | None
    changed: bool
    stored: bool
    queue: str | None
    ended_batch: str | None


@over_api(start_followed)
async def _start(
    api: Api,
    request: QueuerInput,
    *,
    engine: Engine | None = None,
    force: bool = False,
    attached: bool = False,
    taken_up: Callable[[str], None] = lambda _: None,
) -> FollowedRun:
    del attached, taken_up  # the platform's own process of the local engine drives it
    described = request.model_dump(mode="json", exclude={"rejects", "retries", "schedule", "only"})
    wanted = {**described, "engine": engine, "force": force}
    return RemoteRun(api, await api.start(StartedRun, "runs", json=wanted), request)


@over_api(start_retry)
async def _start_retry(
    api: Api, run: str, *, engine: Engine | None = None, attached: bool = False
) -> FollowedRun:
    del engine, attached  # it is always that of the platform
    return RemoteRun(api, await api.start(StartedRun, "runs", run, "retry", json={}))


@over_api(follow_run)
async def _follow_run(api: Api, name: str) -> FollowedRun:
    details = await api.get(Details, "runs", name)
    return RemoteRun(api, StartedRun.of(run_of(details, name)))


@over_api(read_run_log)
async def _read_run_log(api: Api, run: str, *, limit: int) -> RunLogTail:
    return await api.get(RunLogTail, "runs", run, "log", params={"limit": limit})


@over_api(recent_runs)
async def _recent_runs(api: Api, *, limit: int, chosen: RunFilter | None = None) -> Runs:
    wanted = {} if chosen is None else chosen.model_dump(exclude_none=True)
    runs, page = await api.pages(RunReport, "runs", limit=limit, params=wanted)
    return Runs(runs, api.read(list[str], page["remarks"]))


@over_api(run_details)
async def _run_details(api: Api, name: str) -> Details:
    return await api.get(Details, "runs", name)


@over_api(control_run)
async def _control_run(
    api: Api,
    name: str,
    action: Action,
    *,
    request_id: str | None = None,
    by: str | None = None,
) -> Controlled:
    del request_id, by  # the API knows who sends the request, and gives it an id
    done = await api.send("POST", _Accepted, "sync", name, action)
    return Controlled(**dict(done))
