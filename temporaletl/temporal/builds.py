"""Builds of services, which Temporal's worker deployments tell apart: which one a worker is."""

from dataclasses import replace
from importlib.metadata import version
from typing import Any

from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import (
    UnsandboxedWorkflowRunner,
    WorkerDeploymentConfig,
    WorkflowInstance,
    WorkflowInstanceDetails,
    WorkflowRunner,
)

from temporaletl.settings.platform import TemporalSettings


class _WithoutBehaviors(UnsandboxedWorkflowRunner):
    """Runs workflows as if they did not say how they follow builds.

    The server refuses each task of one that says so, from a worker that is no named build.
    """

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        silent = replace(det.defn, versioning_behavior=VersioningBehavior.UNSPECIFIED)
        return super().create_instance(replace(det, defn=silent))


def build_of(service: str, temporal: TemporalSettings) -> dict[str, Any]:
    """The options of a service's workers that say which build they are."""
    if temporal.build_id is None:
        # Left to itself, the SDK reads every imported module to hash them: two seconds a start.
        return {"build_id": f"temporaletl-{version('temporaletl')}"}
    name = temporal.deployment_name or f"temporaletl-{service}"
    build = WorkerDeploymentVersion(deployment_name=name, build_id=temporal.build_id)
    return {"deployment_config": WorkerDeploymentConfig(build, use_worker_versioning=True)}


def workflow_runner(temporal: TemporalSettings | None = None) -> WorkflowRunner:
    """What runs the workflows of such workers, and replays them; None: of no build.

    Without the SDK's sandbox: all that a workflow of ours uses would pass through it, so that it
    guards nothing, and costs more than the rest of an activation. Recorded histories are replayed
    in the tests, and what differs from one replay to the next is kept out of workflows there.
    """
    named = temporal is not None and temporal.build_id is not None
    return UnsandboxedWorkflowRunner() if named else _WithoutBehaviors()
