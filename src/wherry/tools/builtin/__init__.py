"""The tools that come with wherry, one module each."""

from importlib import import_module
from typing import TYPE_CHECKING

from wherry.tools.builtin.ask_user import AskUser, ask_user
from wherry.tools.builtin.final_answer import final_answer_schema
from wherry.tools.builtin.memo import MemoTool, memo
from wherry.tools.builtin.read_artifact import read_artifact
from wherry.tools.builtin.search_artifact import search_artifact

if TYPE_CHECKING:
    from wherry.tools.builtin.corpus_search import CorpusSearch
    from wherry.tools.builtin.visit_webpage import VisitWebpage
    from wherry.tools.builtin.web_search import WebSearch

_LATE = {"CorpusSearch": "corpus_search", "VisitWebpage": "visit_webpage", "WebSearch": "web_search"}
"""Loaded at first use: SQLite, and what is known of addresses, cost more to import than all the others together."""

__all__ = [
    "AskUser",
    "CorpusSearch",
    "MemoTool",
    "VisitWebpage",
    "WebSearch",
    "ask_user",
    "final_answer_schema",
    "memo",
    "read_artifact",
    "search_artifact",
]


def __getattr__(name: str) -> object:
    if name in _LATE:
        return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
