"""Types of nodes by name."""

from temporaletl.worker.pipelines.nodes.agents import AiAgentData
from temporaletl.worker.pipelines.nodes.fields import NodeData
from temporaletl.worker.pipelines.nodes.loading import DatabaseData, LoadData, SourceData
from temporaletl.worker.pipelines.nodes.logic import (
    ConditionData,
    DelayData,
    MapData,
    PipelineData,
    SwitchData,
    TransformData,
)
from temporaletl.worker.pipelines.nodes.requests import (
    ApiCallData,
    ApprovalData,
    WaitForWebhookData,
    WebhookData,
)

NODE_TYPES: dict[str, type[NodeData]] = {
    "ai_agent": AiAgentData,
    "api_call": ApiCallData,
    "approval": ApprovalData,
    "condition": ConditionData,
    "database": DatabaseData,
    "delay": DelayData,
    "load": LoadData,
    "map": MapData,
    "pipeline": PipelineData,
    "source": SourceData,
    "switch": SwitchData,
    "transform": TransformData,
    "wait_for_webhook": WaitForWebhookData,
    "webhook": WebhookData,
}

#: Types that a `map` can run for each item: what an activity does alone.
MAPPED = ("ai_agent", "api_call", "database", "transform", "webhook")
