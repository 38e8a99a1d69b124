"""What requests work with: the platform, and observations that they share."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request

from temporaletl.control.operations.observation import Observations
from temporaletl.control.operations.platform import Platform

#: How long a token is taken for valid that was.
_TOKEN_LIFE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of an application that live as long as it does."""

    platform: Platform
    #: Set when the server is about to end: what would go on for ever ends.
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    observations: Observations = field(default_factory=Observations)
    tokens: Observations = field(
        default_factory=lambda: Observations(fresh=_TOKEN_LIFE, stale=_TOKEN_LIFE)
    )


def _context_of(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


InContext = Annotated[Context, Depends(_context_of)]
