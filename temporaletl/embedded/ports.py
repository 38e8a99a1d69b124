"""Ports of this machine that servers may listen on."""

import socket

HOST = "127.0.0.1"
_TRIED = 100


def free_port(first: int = 0) -> int:
    """A port that nobody listens on: `first`, else the next such one; 0: any."""
    for port in range(first, min(first + _TRIED, 65536)) if first else ():
        if _is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def instead_of(wanted: int, port: int) -> str:
    """What is added where a server is told to be at `port`: that `wanted` was not to be had."""
    return f"; port {wanted} is in use" if wanted not in (0, port) else ""


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do; else a port whose last connections have just ended counts as used.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
