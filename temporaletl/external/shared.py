"""Clients that all jobs of a process share: one for the same settings."""

import threading
from collections.abc import Callable
from typing import Protocol

from temporaletl.settings.platform import Settings


class Closeable(Protocol):
    """A shareable client: safe to use from many threads, and closed at the end."""

    def close(self) -> None: ...


class Shared[*A, C: Closeable]:
    """The clients of one kind, each created at its first use.

    open_shop = Shared(ShopClient)
    client = open_shop(ShopSettings.load())

    One whose secret was replaced is kept no longer than somebody uses it.
    """

    def __init__(self, make: Callable[[*A], C]) -> None:
        self._make = make
        self._clients: dict[tuple[*A], C] = {}
        self._guard = threading.Lock()

    def __call__(self, *settings: *A) -> C:
        """Return the process's one client for these settings; sends no request yet.

        Raises: as the client does when it is created; the next use tries again.
        """
        with self._guard:
            if settings not in self._clients:
                made = self._make(*settings)
                for former in [one for one in self._clients if _is_replaced(one, settings)]:
                    del self._clients[former]
                self._clients[settings] = made
            return self._clients[settings]

    def close_all(self) -> None:
        """Close every client, and forget it; safe to repeat."""
        with self._guard:
            while self._clients:
                self._clients.popitem()[1].close()


def _is_replaced(former: tuple[object, ...], now: tuple[object, ...]) -> bool:
    """Whether settings differ by what may be replaced while a process runs, and by nothing else."""
    return all(
        one == other or (isinstance(one, Settings) and one.is_replaced_by(other))
        for one, other in zip(former, now, strict=True)
    )
