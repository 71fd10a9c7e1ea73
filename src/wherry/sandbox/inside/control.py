"""Messages to the host: one JSON object each, with descriptors where something is handed over."""

from __future__ import annotations

import json
import socket
from typing import Any


def send(control: socket.socket, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
    """The socket keeps messages apart, and is read by the host alone."""
    socket.send_fds(control, [json.dumps(message).encode()], list(descriptors))
