"""Requests that Launchpad refuses."""


class RefusedError(Exception):
    """A request gets an error answer, its message as plain text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
