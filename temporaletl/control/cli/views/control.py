"""`etl pause`, `etl resume`, `etl cancel`: what was requested, and what holds from then on."""

from temporaletl.control.cli.output import count, say
from temporaletl.control.cli.session import call
from temporaletl.control.operations.control import Action, Controlled, Kind, control_run

_ON_THE_WAY: dict[tuple[Kind, Action], str] = {
    ("run", "pause"): "pausing {id}: running jobs stop at their next page, no others start"
    "{running}; `etl resume {id}` lets them go on",
    ("run", "resume"): "resuming {id}: its jobs go on where they stopped",
    ("run", "cancel"): "cancelling {id}: running jobs stop at their next page, no others start"
    "{running}; what is loaded stays",
    ("job", "pause"): "pausing {id}: it stops at its next page; `etl resume {id}` lets it go on",
    ("job", "resume"): "resuming {id}: it goes on where it stopped",
    ("job", "cancel"): "cancelling {id}: it stops at its next page; what is loaded stays",
}
_AT_REST: dict[Kind, str] = {
    "run": "paused {id}: no job runs, and none starts; `etl resume {id}` lets them go on",
    "job": "paused {id}: `etl resume {id}` lets it go on",
}
_IDLE: dict[Kind, str] = {
    "run": "{id} was not paused; those of its jobs that were go on",
    "job": "{id} was not paused",
}


def send(name: str, action: Action) -> None:
    """Pause, resume or cancel a run or a job, and say what holds from then on."""
    say(described(call(control_run, name, action)))


def described(done: Controlled) -> str:
    """What came of a request, in a sentence."""
    if done.ended_batch is not None:
        return (
            f"ended {done.ended_batch}, whose workflow {done.workflow_id} is not known to this "
            f"Temporal: what is loaded stays, and the next run covers its window"
        )
    if done.stored and done.engine == "local":
        return (
            f"stored: no process of the local engine drives {done.workflow_id}; it goes on when "
            "one takes it up (`etl serve`, or the next `etl run … --engine local --wait`)"
        )
    if done.stored:
        return (
            f"stored: no service polls task queue {done.queue}; {done.workflow_id} heeds "
            f"{done.action} when one does"
        )
    if done.action == "resume" and not done.changed:
        said = _IDLE[done.kind]
    elif done.state == "paused":
        said = _AT_REST[done.kind]
    else:
        said = _ON_THE_WAY[done.kind, done.action]
    return said.format(id=done.workflow_id, running=_running(done.jobs_running))


def _running(jobs: int | None) -> str:
    if not jobs:
        return ""
    return f" ({count(jobs, 'job')} still {'runs' if jobs == 1 else 'run'})"
