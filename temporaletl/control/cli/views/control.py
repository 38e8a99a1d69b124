"""`etl pause`, `etl resume`, `etl cancel`: signals, and their effect."""

from temporaletl.control.cli.output import say
from temporaletl.control.cli.session import with_platform
from temporaletl.control.operations.signals import Kind, Signal, Signalled, signal_run

_COMES_OF_IT: dict[tuple[Kind, Signal], str] = {
    ("run", "pause"): "pausing {id}: running jobs stop at their next page, no others start; "
    "`etl resume {id}` lets them go on",
    ("run", "resume"): "resuming {id}: its jobs go on where they stopped",
    ("run", "cancel"): "cancelling {id}: running jobs stop at their next page, no others start; "
    "what is loaded stays",
    ("job", "pause"): "pausing {id}: it stops at its next page; `etl resume {id}` lets it go on",
    ("job", "resume"): "resuming {id}: it goes on where it stopped",
    ("job", "cancel"): "cancelling {id}: it stops at its next page; what is loaded stays",
}


def send(name: str, signal: Signal) -> None:
    """Signal a run or a job and say what comes of it."""
    say(_described(with_platform(lambda platform: signal_run(platform, name, signal))))


def _described(done: Signalled) -> str:
    if done.ended_batch is not None:
        return (
            f"ended {done.ended_batch}, whose workflow {done.workflow_id} is not known to this "
            f"Temporal: what is loaded stays, and the next run covers its window"
        )
    said = _COMES_OF_IT[done.kind, done.signal].format(id=done.workflow_id)
    if done.unattended is not None:
        said += f" (no service polls task queue {done.unattended}: it heeds this when one does)"
    return said
