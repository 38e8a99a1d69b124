"""What requests work with: the platform, what they observe together, and the open streams."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request

from temporaletl.control.api.limiter import RateLimiter
from temporaletl.control.api.settings import ApiSettings
from temporaletl.control.api.streams import Streams
from temporaletl.control.operations.live import Live
from temporaletl.control.operations.observation import Observations
from temporaletl.control.operations.platform import Platform
from temporaletl.embedded.services import ServiceState
from temporaletl.notifications.settings import NotificationSettings

#: How long a token is taken for valid that was.
_TOKEN_LIFE = timedelta(seconds=1)
#: How long an answer is given again, and how many are remembered: a large one has 200 KB.
_ANSWER_LIFE = timedelta(seconds=1)
_ANSWERS = 200


class Context:
    """The parts of an application that live as long as it does."""

    def __init__(
        self, platform: Platform, settings: ApiSettings, notification: NotificationSettings
    ) -> None:
        self.platform = platform
        self.notification = notification
        self.observations = Observations()
        self.tokens = Observations(fresh=_TOKEN_LIFE, stale=_TOKEN_LIFE)
        self.answers = Observations(fresh=_ANSWER_LIFE, stale=_ANSWER_LIFE, kept=_ANSWERS)
        self.live = Live(platform, self.observations)
        #: Of those whose signature holds, for each pipeline.
        self.webhooks = RateLimiter(settings.requests_per_minute)
        self.streams = Streams(platform, self.live, settings)
        #: The states of the services that this process runs; none where it runs none.
        self.services: Callable[[], Sequence[ServiceState]] = tuple

    def forget(self) -> None:
        """Let the next reads be new ones, after something was changed from here."""
        self.observations.forget()
        self.answers.forget()


async def _context_of(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


InContext = Annotated[Context, Depends(_context_of)]
