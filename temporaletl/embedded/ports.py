"""Ports of this machine that servers may listen on."""

import contextlib
import socket

HOST = "127.0.0.1"
_TRIED = 100


class ClaimedPort:
    """A port that all who choose by `claim_port` pass over, until `release` or this process's end.

    Between its choice and the moment its server listens, nothing else keeps another stack from it.
    What holds the claim is the UDP port of the same number, which none of the servers uses.
    """

    def __init__(self, number: int, claim: socket.socket) -> None:
        self.number = number
        self._claim = claim

    def release(self) -> None:
        """Let others have the port; safe to repeat."""
        self._claim.close()


def claim_port(first: int = 0) -> ClaimedPort:
    """A port that nobody listens on or has claimed: `first`, else the next such one; 0: any."""
    for number in range(first, min(first + _TRIED, 65536)) if first else ():
        if claimed := _claimed(number):
            return claimed
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            number = int(probe.getsockname()[1])
        if claimed := _claimed(number):
            return claimed


def instead_of(wanted: int, port: int) -> str:
    """What is added where a server is told to be at `port`: that `wanted` was not to be had."""
    return f"; port {wanted} is in use" if wanted not in (0, port) else ""


def _claimed(number: int) -> ClaimedPort | None:
    with contextlib.ExitStack() as exits:
        claim = exits.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        try:
            claim.bind((HOST, number))
        except OSError:
            return None
        if not _is_free(number):
            return None
        exits.pop_all()
        return ClaimedPort(number, claim)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do; else a port whose last connections have just ended counts as used.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
