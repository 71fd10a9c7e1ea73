"""What a group chat came to: what was said last, or a summary in the words of the group's model."""

from __future__ import annotations

import re

from wherry.agents.group.state import ASKER, NOTES, Chat
from wherry.agents.run import Run
from wherry.agents.summaries import aside
from wherry.context.rendering import joined
from wherry.context.transcript import Transcript, TranscriptReader
from wherry.errors import ContextBudgetError, LimitReached, StoreError, WherryError
from wherry.messages import Message
from wherry.models import ModelRequest

RULES = """\
You are shown a conversation of several, whose first message is the task. Write what it came to, as the answer to the \
task: results, decisions and what is still open. Write the answer alone."""
_PREVIEW = re.compile(r'<wherry:offloaded ref="([^"]+)"')
_PAGE = 16
_QUESTION = "Write now what the conversation came to."


def last_words(transcript: Transcript, position: int) -> str:
    """What a participant said last, up to a position; whole, where the transcript has a preview of it.

    Raises:
        StoreError: The whole is not in the store any more.
    """
    while position > 0:
        page = transcript.read(after=max(0, position - _PAGE), limit=min(_PAGE, position))
        for said in reversed(page):
            if said.author == ASKER:
                return ""
            if said.author != NOTES:
                kept = _PREVIEW.match(said.text)
                data = None if kept is None else transcript.store.artifacts.read(kept[1])
                return said.text if data is None else data.decode("utf-8", "surrogatepass")
        position -= len(page)
    return ""


async def summary_of(run: Run, chat: Chat, *, otherwise: str) -> str:
    """What the model makes of the chat; `otherwise`, with a warning, where it cannot.

    Raises:
        LimitReached: There is no room left for it under the limits.
        StoreError: The store is broken.
    """
    profile = run.profile
    window = run.window.window
    most = min(profile.max_output, max(window // 4, 16))
    reader = TranscriptReader(chat.transcript, NOTES, profile=profile, task=chat.task)
    ask = aside(run.model, run.journal, run.account, name="summary", kind="summary", task="what the chat came to")
    try:
        view = await reader.view((window - most) * 3 // 4 - 200)
        users = joined([*view.messages, Message("user", _QUESTION)])
        reply = await ask(ModelRequest([Message("system", RULES), users], max_output=most))
        text = reply.text.strip()
    except (LimitReached, StoreError):
        raise
    except ContextBudgetError as error:
        text, why = "", error.message
    except Exception as error:  # noqa: BLE001 - a user's own model raises what it likes
        text, why = "", error.message if isinstance(error, WherryError) else f"{type(error).__name__}: {error}"
    else:
        why = "the model said nothing"
    if text:
        return text
    run.warn(f"the chat has no summary: {why}", "the output is what was said last")
    return otherwise
