"""Messages of executions: what travels through Temporal's histories. Results never do.

A result is named by its execution and node; `NodeOutcome` says how large it is.
"""

from datetime import timedelta
from typing import Literal

from pydantic import Field, JsonValue

from temporaletl.messages import BatchSummary, ErrorText, Message, QueuerInput, RunPolicy, UtcTime
from temporaletl.worker.pipelines.graph import Graph, Join, Link, NodeState

ExecutionState = Literal["pending", "running", "completed", "failed", "cancelled", "timed_out"]
#: What an execution that has not ended does, or is on the way to.
OpenExecutionState = Literal["running", "pausing", "paused", "cancelling", "finishing"]


class Carried(Message):
    """What an execution takes along when it continues as new; all else is in the warehouse."""

    paused: bool = False
    cancelling: bool = False
    deadline: UtcTime | None = None
    decisions: dict[str, str] = Field(default_factory=dict)


class ExecutionInput(Message):
    """The request to execute: the input of WorkflowExecution, and of WorkflowValidation.

    `execution_id` names one that was entered before, with its definition and its input. Else it is
    entered by what is here: a definition, or a stored pipeline and the version of it, the latest
    unless named. `input` passes through the history then: let it be small, and no secret.
    """

    execution_id: str | None = None
    definition: dict[str, JsonValue] | None = None
    pipeline: str | None = None
    version: str | None = None
    input: JsonValue = None
    #: The pipeline's schedule that starts it: each of its times is executed once.
    schedule: str | None = None
    carried: Carried | None = None


class Decision(Message):
    """What a person, or a request, decided of a node that waits for it.

    `outcome` is the handle of the edges that it takes; what came with it is in the warehouse.
    """

    node: str
    outcome: str


class NodeError(Message):
    """Why a node failed, or an item of it: what the edges of the outcome `error` bring."""

    type: str
    message: ErrorText
    node: str = ""
    item: int | None = None
    attempts: int = 1


class Wait(Message):
    """What a node waits for, between its two activities: the first of these that is set.

    A time; a decision, until `until`; a run of a source; another execution; chunks of items.
    """

    until: UtcTime | None = None
    decision: bool = False
    run: QueuerInput | None = None
    execution_id: str | None = None
    chunks: int | None = None
    concurrency: int = 1
    per_minute: int | None = None  # items

    @property
    def is_carried(self) -> bool:
        """Whether an execution can continue as new while it waits."""
        return self.run is None and self.execution_id is None and self.chunks is None


#: Types whose nodes compute alone, mostly in milliseconds.
QUICK_TYPES = ("condition", "switch", "transform")


class FollowedNode(Message):
    """A node that completed together with one before it; `handles` are the outcomes it takes."""

    node: str
    handles: tuple[str | None, ...] = ()


class NodeOutcome(Message):
    """What became of a node: it is settled, or waits.

    `handles` are the outcomes whose edges it takes; `bytes` and `items` measure its result.
    `followed` are quick nodes behind it that completed with it, in their order.
    """

    state: NodeState
    handles: tuple[str | None, ...] = ()
    wait: Wait | None = None
    bytes: int = 0
    items: int | None = None
    sha256: str | None = None
    error: NodeError | None = None
    followed: tuple[FollowedNode, ...] = ()


class PlannedNode(Message):
    """A node, as far as the workflow must know it."""

    id: str
    type: str
    join: Join = "any"
    #: Whether it goes on with its edges without a name where it fails, and none is for errors.
    goes_on: bool = False
    #: Whether an edge of the outcome `error` leaves it.
    catches: bool = False
    timeout: timedelta = timedelta(minutes=5)
    policy: RunPolicy = RunPolicy(max_attempts=3, maximum_interval=timedelta(seconds=10))


class ExecutionPlan(Message):
    """An execution as it was entered, and as far as it has come.

    `recorded` has the nodes that are settled, or wait; `ended` is set where nothing is to be done.
    """

    execution_id: str
    nodes: tuple[PlannedNode, ...]
    links: tuple[tuple[str, str, str | None], ...]
    recorded: dict[str, NodeOutcome] = Field(default_factory=dict)
    deadline: UtcTime | None = None
    queuer_queue: str
    ended: ExecutionState | None = None

    def graph(self) -> Graph:
        """Its nodes and links."""
        return Graph(
            tuple(node.id for node in self.nodes),
            tuple(Link(*link) for link in self.links),
            {node.id: node.join for node in self.nodes},
        )


class NodeRequest(Message):
    """The request to run a node, whose input is the results of `sources`."""

    execution_id: str
    node: str
    sources: tuple[str, ...] = ()
    timeout: timedelta = timedelta(minutes=5)  # of one attempt
    policy: RunPolicy = RunPolicy()


class CloseRequest(Message):
    """The request to settle a node that waited, by the end of what it waited for."""

    execution_id: str
    node: str
    sources: tuple[str, ...] = ()
    outcome: str | None = None  # of a decision, or `timeout`
    run: BatchSummary | None = None
    execution: "ExecutionSummary | None" = None
    timeout: timedelta = timedelta(minutes=5)  # of one attempt
    policy: RunPolicy = RunPolicy()


class FailRequest(Message):
    """The request to record that a node failed, or ran out of its time."""

    execution_id: str
    node: str
    state: Literal["failed", "timed_out"]
    error: NodeError
    goes_on: bool = False
    catches: bool = False
    policy: RunPolicy = RunPolicy()


class ChunkRequest(Message):
    """The request for some items of a `map`: those of one chunk, from 0."""

    execution_id: str
    node: str
    chunk: int
    sources: tuple[str, ...] = ()
    timeout: timedelta = timedelta(minutes=5)  # of one attempt of one item
    policy: RunPolicy = RunPolicy()


class ChunkResult(Message):
    completed: int
    failed: int


class EndExecutionRequest(Message):
    """The request to close an execution; nodes that are not settled end as it does."""

    execution_id: str
    state: ExecutionState
    skipped: tuple[str, ...] = ()
    error: NodeError | None = None
    policy: RunPolicy = RunPolicy()


class ExecutionSummary(Message):
    """An execution that ended; its results are in the warehouse, by execution and node."""

    execution_id: str
    state: ExecutionState
    nodes: dict[NodeState, int] = Field(default_factory=dict)  # how many ended so
    last: str | None = None  # the node whose result is the execution's
    error: NodeError | None = None


class ExecutionStatus(Message):
    """The answer to the query `get_status`: of each node that is not waiting, what it does."""

    execution_id: str | None
    state: OpenExecutionState | ExecutionState
    nodes: dict[str, NodeState] = Field(default_factory=dict)
    chunks_done: dict[str, int] = Field(default_factory=dict)  # of each `map` that runs


class FoundFault(Message):
    """A fault of a definition, with its place; see `DefinitionFault`."""

    path: str
    message: str
    node: str | None = None
    line: int | None = None
    column: int | None = None
    warning: bool = False


class ValidationResult(Message):
    """The result of WorkflowValidation."""

    valid: bool
    sha256: str | None = None
    faults: tuple[FoundFault, ...] = ()


Carried.model_rebuild()
CloseRequest.model_rebuild()
