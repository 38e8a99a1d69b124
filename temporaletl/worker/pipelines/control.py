"""Control of an execution: what its workflow was told, and its interpreter looks at."""

from dataclasses import dataclass, field

from temporaletl.worker.pipelines.messages import ExecutionState, NodeError


@dataclass
class Control:
    """What an execution was told: by signals and updates, and by its clock."""

    paused: bool = False
    #: How it is to end, before its nodes are through; None while it goes on.
    stop: ExecutionState | None = None
    error: NodeError | None = None
    decisions: dict[str, str] = field(default_factory=dict)
    changed: bool = True

    def note(self) -> None:
        """Have the interpreter look again."""
        self.changed = True
