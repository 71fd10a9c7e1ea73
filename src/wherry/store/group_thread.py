"""A thread that works on all that is queued as a group: it writes behind the backs of those who asked for it."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from wherry.store.connections import closed_error

T = TypeVar("T")

GROUP = 256
"""Most items in one group."""
DRAIN_SECONDS = 30.0
"""How long closing waits for the queue; a thread that is stuck on a dead disk must not keep a process from ending."""


class GroupThread(Generic[T]):
    """Starts with the first item, ends when it is closed.

    Args:
        work: Called in the thread with all items that wait, in order.
        url: The store, for errors.
    """

    def __init__(self, work: Callable[[list[T]], object], *, url: str) -> None:
        self._work = work
        self._url = url
        self._queue: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        """Over `_closing` and the start of the thread."""
        self._closing = False
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    def put(self, item: T) -> None:
        """
        Raises:
            StoreError: It is closed.
        """
        with self._gate:
            if self._closing:
                raise closed_error(self._url)
            self._queue.put(item)
            if self._thread is None:
                # A daemon, so that a process whose main thread ends is not held up; the store drains it at exit.
                self._thread = threading.Thread(target=self._run, name="wherry-store", daemon=True)
                self._thread.start()

    def close(self) -> bool:
        """Work on what is queued and end the thread; whether what it used may be closed now.

        It may not in a forked process, nor when somebody else closes, nor when the thread is stuck: it uses its
        connection still then, and the process may end; what was committed is kept.
        """
        if os.getpid() != self._pid:
            return False
        with self._gate:
            if self._closing:
                return False
            self._closing = True
            self._queue.put(None)
            thread = self._thread
        if thread is not None:
            thread.join(DRAIN_SECONDS)
            return not thread.is_alive()
        return True

    def _run(self) -> None:
        ended = False
        while not ended:
            group: list[T] = []
            item = self._queue.get()
            while True:
                if item is None:
                    ended = True
                else:
                    group.append(item)
                if ended or len(group) >= GROUP:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if group:
                self._work(group)
