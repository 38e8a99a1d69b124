"""`/codec`: payloads decrypted, and encrypted, for Temporal's own UI and command line."""

import base64
from typing import Annotated

from fastapi import APIRouter, Header
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field
from temporalio.api.common.v1 import Payload as ServerPayload

from temporaletl.control.api.access import Decrypter
from temporaletl.control.api.context import InContext
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.operations.payload_keys import code_payloads

router = APIRouter(prefix="/codec", tags=["codec"], responses=RESPONSES)

Namespace = Annotated[
    str, Header(alias="X-Namespace", max_length=200, description="whose payloads they are")
]


class Payload(BaseModel):
    """A payload as Temporal's JSON has it: all values in base64."""

    metadata: dict[str, Base64Bytes] = Field(
        default={}, examples=[{"encoding": base64.b64encode(b"json/plain").decode()}]
    )
    data: Base64Bytes = Field(default=b"", examples=[base64.b64encode(b'"text"').decode()])


class Payloads(BaseModel):
    """Payloads, each answered in its place."""

    model_config = ConfigDict(extra="forbid")

    payloads: list[Payload]


@router.post("/decode", summary="Decrypt payloads", operation_id="decode_payloads")
async def decode(
    context: InContext, caller: Decrypter, wanted: Payloads, namespace: Namespace = "default"
) -> Payloads:
    """Decrypt payloads; what is not encrypted comes back as it is. An audit row says of it."""
    found = await code_payloads(
        context.platform, "decode", _given(wanted), author=caller.author(), namespace=namespace
    )
    return _answer(found)


@router.post("/encode", summary="Encrypt payloads", operation_id="encode_payloads")
async def encode(
    context: InContext, caller: Decrypter, wanted: Payloads, namespace: Namespace = "default"
) -> Payloads:
    """Encrypt payloads with the first key."""
    found = await code_payloads(
        context.platform, "encode", _given(wanted), author=caller.author(), namespace=namespace
    )
    return _answer(found)


def _given(wanted: Payloads) -> list[ServerPayload]:
    return [ServerPayload(metadata=one.metadata, data=one.data) for one in wanted.payloads]


def _answer(found: list[ServerPayload]) -> Payloads:
    return Payloads.model_validate(
        {
            "payloads": [
                {
                    "metadata": {
                        name: base64.b64encode(value) for name, value in one.metadata.items()
                    },
                    "data": base64.b64encode(one.data),
                }
                for one in found
            ]
        }
    )
