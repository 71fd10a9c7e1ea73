"""The launcher's process, from the host's side: started, asked for sessions, ended."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from wherry.errors import SandboxError, SandboxUnavailable

from .inside.config import JailConfig
from .launch import read_complaints, spawn
from .links import Exit, Link
from .scratch import Scratch

_START_SECONDS = 20.0
_SESSION_SECONDS = 10.0


class Launcher:
    """One process that forks sessions. Belongs to the thread that made it."""

    def __init__(self, config: JailConfig, *, on_exit: Callable[[int, Exit], None]) -> None:
        """Args:
        config: what every session of it is like.
        on_exit: is told the id and the end of each session's process.
        """
        self._on_exit = on_exit
        self._scratch = Scratch()
        self._config = replace(config, scratch=self._scratch.path)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process, self._complaints = spawn("launcher", theirs.fileno())

    def wait_until_up(self) -> None:
        """Let it build its jail. Not part of making it, so that whoever made it can already let go of it.

        Raises:
            SandboxUnavailable: it cannot be started; it was stopped.
        """
        try:
            self._control.settimeout(_START_SECONDS)
            self._control.send(self._config.encode())
            self._wait_until_up()
        except OSError as error:
            told = read_complaints(self._complaints)
            self.stop()
            raise SandboxUnavailable(f"the jail cannot be built: {told or error}") from error
        except BaseException:
            self.stop()
            raise
        if self._config.namespaces:
            self._scratch.remove()  # the jail's root was only mounted there while it was built

    def fileno(self) -> int:
        """Readable when there is news; see `receive`."""
        return self._control.fileno()

    def receive(self) -> None:
        """News outside of a request: sessions that ended.

        Raises:
            OSError: the launcher itself has.
        """
        self._note_exit(self._message()[0])

    def make(self) -> tuple[int, Link, list[int]]:
        """A new session's process: its id, what the host holds of it, and the listener for its system calls, if any.

        Raises:
            OSError, SandboxError: it could not be made; the launcher should be replaced.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [b"session"], [theirs.fileno()])
            pid, pidfd = self._answer()
        except BaseException:
            ours.close()
            raise
        link = Link(ours, pidfd)
        try:
            return pid, link, self._greet(ours, link)
        except BaseException:
            link.release()
            raise

    def stop(self) -> None:
        """End it; the kernel ends everything that it started, and it clears up itself where there is something."""
        self._control.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._complaints.close()
        self._scratch.remove()

    def forget(self) -> None:
        """In a forked copy of the host: it is the parent's."""
        self._control.close()
        self._scratch.forget()

    def _wait_until_up(self) -> None:
        while True:
            message, _ = self._message()
            if "map" in message:
                self._map_ids()
                self._control.send(b"mapped")
            elif "up" in message:
                return
            else:
                raise SandboxUnavailable(f"the jail cannot be built: {message.get('failed', message)}")

    def _map_ids(self) -> None:
        """Inside, 0 builds the jail as our 0; what runs in it is 1000 there and nobody here."""
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{self._process.pid}/{name}", "w", encoding="ascii") as file:
                file.write("0 0 1\n1000 65534 1\n")

    def _answer(self) -> tuple[int, int]:
        """To a request: the new process, by its id there and by a handle."""
        self._control.settimeout(_SESSION_SECONDS)
        while True:
            message, descriptors = self._message()
            if not self._note_exit(message):
                break
        if "pid" not in message:
            raise SandboxError(f"{message.get('failed')}: {read_complaints(self._complaints)}")
        return message["pid"], descriptors[0]

    def _greet(self, ours: socket.socket, link: Link) -> list[int]:
        ours.settimeout(_SESSION_SECONDS)
        greeting, handles, _, _ = socket.recv_fds(ours, 64, 3)
        if not greeting:
            raise SandboxError(f"the session ended while it was locked down: {read_complaints(self._complaints)}")
        link.keep(folder=handles[0], output=handles[1])
        ours.setblocking(False)
        return handles[2:]

    def _message(self) -> tuple[dict[str, Any], list[int]]:
        data, descriptors, _, _ = socket.recv_fds(self._control, 1 << 16, 2)
        if not data:
            raise OSError(f"the launcher ended: {read_complaints(self._complaints) or 'without a word'}")
        return json.loads(data), descriptors

    def _note_exit(self, message: dict[str, Any]) -> bool:
        if "exit" not in message:
            return False
        self._on_exit(message["exit"], Exit(message["code"], message["cpu"]))
        return True
