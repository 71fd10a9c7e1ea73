"""wherry's group chat, on a store on disk."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import chat

from wherry import FunctionModel, GroupChat, ToolCallingAgent, open_store
from wherry.models import ModelRequest


def characters(request: ModelRequest) -> int:
    return sum(len(message.content) for message in request.messages)


def choose(request: ModelRequest) -> str:
    return json.dumps({"speaker": chat.chooses(characters(request))})


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "wherry.db"
    store = open_store(f"sqlite:///{path}")
    model = FunctionModel(lambda request: chat.says(characters(request)), window=chat.WINDOW)
    chooser = FunctionModel(choose, window=chat.WINDOW)
    agents = [ToolCallingAgent((), model, name=name, description="Talks.") for name in chat.NAMES]
    speaker = "auto" if chat.CHOOSES else "round_robin"
    GroupChat(agents, model=chooser, speaker=speaker, max_rounds=chat.ROUNDS, store=store).run(chat.TASK)
    store.close()
    with closing(sqlite3.connect(path)) as database:
        messages = database.execute("SELECT sum(length(body)) FROM messages").fetchone()[0]
    chat.tell(messages, file=path.stat().st_size)
