"""Ports of this machine."""

from __future__ import annotations

import socket

from lanelock.policies import WorkspaceError

HOST = "127.0.0.1"


def listening(port: int) -> socket.socket:
    """Returns a socket that listens on a port of this machine alone. Raises WorkspaceError where it is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise WorkspaceError(f"--port {port}: {error.strerror}; name another with --port N") from None
    return listener


def free_port() -> int:
    """Returns a port that nobody uses now."""
    with listening(0) as found:
        port: int = found.getsockname()[1]
        return port
