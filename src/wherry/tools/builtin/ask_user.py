"""`ask_user`: a question to the person at the terminal."""

from __future__ import annotations

import os
from threading import Lock

from wherry.errors import ToolError
from wherry.tools.tool import Tool

LONGEST = 2_000
"""Characters of a question that are shown."""
_LONGEST_ANSWER = 20_000


class AskUser(Tool):
    """Asks on the terminal and waits for a line, for any time.

    Where the program has no terminal (a server, a batch, a pipe under cron) the model is told so and goes on without.

    Args:
        terminal: The terminal's device.
    """

    name = "ask_user"
    description = "Ask the user a question, where only they can know the answer."
    timeout = None

    def __init__(self, *, terminal: str = "/dev/tty") -> None:
        self._terminal = terminal
        self._asking = Lock()  # one question at a time

    def forward(self, question: str) -> str:
        """Ask.

        Args:
            question: one question
        """
        shown = _plain(question)[:LONGEST]
        if not shown:
            raise ToolError("the question is empty")
        try:
            descriptor = os.open(self._terminal, os.O_RDWR | os.O_NOCTTY)
        except OSError as error:
            raise ToolError("there is no terminal, so nobody can be asked: go on with what you know") from error
        with self._asking, os.fdopen(descriptor, "rb", buffering=0) as terminal:
            os.write(descriptor, f"\n{shown}\n> ".encode("utf-8", "replace"))
            answer = terminal.readline(_LONGEST_ANSWER).decode("utf-8", "replace").strip()
        if not answer:
            raise ToolError("the user gave no answer: go on with what you know")
        return answer


ask_user = AskUser()


def _plain(text: str) -> str:
    """A model's text without what a terminal would obey: control characters, and marks that turn the writing round."""
    return "".join(mark for mark in text if mark.isprintable() or mark == "\n").strip()
