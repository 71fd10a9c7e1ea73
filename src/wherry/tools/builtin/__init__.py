"""The tools that come with wherry, one module each."""

from typing import TYPE_CHECKING

from wherry.tools.builtin.ask_user import AskUser, ask_user
from wherry.tools.builtin.corpus_search import CorpusSearch
from wherry.tools.builtin.final_answer import final_answer_schema
from wherry.tools.builtin.memo import MemoTool, memo
from wherry.tools.builtin.read_artifact import read_artifact
from wherry.tools.builtin.search_artifact import search_artifact
from wherry.tools.builtin.web_search import WebSearch

if TYPE_CHECKING:
    from wherry.tools.builtin.visit_webpage import VisitWebpage

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
    # At first use: what it knows of addresses costs more to import than all the others together.
    if name == "VisitWebpage":
        from wherry.tools.builtin.visit_webpage import VisitWebpage

        return VisitWebpage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
