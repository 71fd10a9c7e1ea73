"""The tools that come with smolagents, by their names there."""

# ruff: noqa: RUF012  # tables of inputs stand where tools of smolagents have them

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any  # Any: answers are of any kind

from wherry.compat.smolagents.tools import Tool
from wherry.errors import ToolError


class FinalAnswerTool(Tool):
    """Gives the answer. Every agent has it; put one of your own under its name to change what answers become."""

    name = "final_answer"
    description = "Provides a final answer to the given problem."
    inputs = {"answer": {"type": "any", "description": "The final answer to the problem"}}
    output_type = "any"

    def forward(self, answer: Any) -> Any:
        return answer


class UserInputTool(Tool):
    """Asks whoever sits at the terminal."""

    name = "user_input"
    description = "Asks for user's input on a specific question"
    inputs = {"question": {"type": "string", "description": "The question to ask the user"}}
    output_type = "string"
    timeout = None

    def forward(self, question: str) -> str:
        return input(f"{question} => Type your answer here:")


class AwaitedTool(Tool):
    """A tool that is asynchronous below. `forward` is plain, so that a program's own may call it."""

    skip_forward_signature_validation = True

    awaited: Callable[..., Any]
    """What the tool does: `async def`, with the inputs as arguments."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        from wherry.agents import portal

        return portal.call(partial(self._in_time, {**dict(zip(self.inputs or (), args, strict=False)), **kwargs}))

    async def _in_time(self, arguments: Mapping[str, Any]) -> Any:
        """Called by hand, the tool keeps to its time as well."""
        deadline = asyncio.timeout(self.timeout)
        try:
            async with deadline:
                return await self.awaited(**arguments)
        except TimeoutError:
            if deadline.expired():
                raise self._late() from None
            raise

    def _run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
        """An agent awaits what is not changed: then a run that is cancelled ends it too."""
        if type(self).forward is not AwaitedTool.forward or "forward" in vars(self):
            return super()._run(args, kwargs)
        return self.awaited(**kwargs)


class PythonInterpreterTool(AwaitedTool):
    """Runs Python in wherry's sandbox, each call in a session of its own.

    Args:
        authorized_imports: packages beyond the standard library.
        timeout_seconds: for one call.
    """

    name = "python_interpreter"
    description = "This is a tool that evaluates python code. It can be used to perform calculations."
    inputs = {
        "code": {
            "type": "string",
            "description": "The code to run. All variables that it uses must be defined in it.",
        }
    }
    output_type = "string"

    def __init__(
        self,
        *args: Any,
        authorized_imports: Sequence[str] | None = None,
        timeout_seconds: float | None = 30,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.authorized_imports = list(authorized_imports or ())
        self.timeout = timeout_seconds

    async def awaited(self, code: str) -> str:
        from wherry.compat.smolagents.imports import packages
        from wherry.compat.smolagents.recording import with_value
        from wherry.sandbox import Conditions, get_sandbox
        from wherry.sandbox.snippet import new_seed

        sandbox = get_sandbox("auto", packages=packages(self.authorized_imports))
        session = await sandbox.open(tools=(), variables={}, files=())
        try:
            done = await session.run(with_value(code), call_tool=_no_tools, tools=(), conditions=Conditions(new_seed()))
        finally:
            await session.close()
        if not done.ok:
            raise ToolError(done.error)
        return f"Stdout:\n{done.stdout}\nOutput: {done.value}"


class WebSearchTool(Tool):
    """Searches the web (extra `web`).

    Args:
        max_results: of one search.
        engine: `"duckduckgo"`: that and several others, until one answers; `"bing"`; `"exa"`, with `$EXA_API_KEY`.

    Raises:
        ValueError: there is no such engine.
    """

    name = "web_search"
    description = "Performs a web search for a query and returns a string of the top search results."
    inputs = {"query": {"type": "string", "description": "The search query to perform."}}
    output_type = "string"
    timeout = 90.0
    untrusted = True

    def __init__(self, max_results: int = 10, engine: str = "duckduckgo", **kwargs: Any) -> None:
        super().__init__()
        if engine not in ("duckduckgo", "bing", "exa"):
            raise ValueError(f"Unsupported engine: {engine}")
        self.max_results, self.engine = max_results, engine

    def forward(self, query: str) -> Any:
        from wherry.compat.smolagents import search_apis
        from wherry.tools.builtin.web_search import WebSearch

        if self.engine == "exa":
            return search_apis.listed(search_apis.exa(query, self.max_results))
        if self.engine == "bing":
            return search_apis.listed(search_apis.bing(query, self.max_results))
        return WebSearch(results=self.max_results, max_chars=600 * self.max_results).forward(query)


class DuckDuckGoSearchTool(WebSearchTool):
    """The same search.

    Args:
        max_results: of one search.
        rate_limit: not needed: searches are spaced as the engines want it.
    """

    def __init__(self, max_results: int = 10, rate_limit: float | None = 1.0, **kwargs: Any) -> None:
        super().__init__(max_results)
        self.rate_limit = rate_limit


class VisitWebpageTool(AwaitedTool):
    """Reads a web page, as Markdown (extra `web`).

    Args:
        max_output_length: characters of a page that are given.
    """

    name = "visit_webpage"
    description = "Visits a webpage at the given url and reads its content as a markdown string."
    untrusted = True
    network = ("url",)
    inputs = {"url": {"type": "string", "description": "The url of the webpage to visit."}}
    output_type = "string"

    def __init__(self, max_output_length: int = 40_000) -> None:
        super().__init__()
        self.max_output_length = max_output_length

    async def awaited(self, url: str) -> Any:
        from wherry.compat.smolagents.web import visit

        return await visit(url, self.max_output_length)


class WikipediaSearchTool(AwaitedTool):
    """Looks an article of Wikipedia up, by its public interface.

    Args:
        user_agent: not needed: wherry says who it is.
        language: of the Wikipedia.
        content_type: `"text"` for the whole article, `"summary"` for its beginning.
        extract_format: not needed: articles are given as plain text.
    """

    name = "wikipedia_search"
    untrusted = True
    description = "Searches Wikipedia and returns a summary or full text of the given topic, along with the page URL."
    inputs = {"query": {"type": "string", "description": "The topic to search on Wikipedia."}}
    output_type = "string"

    def __init__(
        self,
        user_agent: str = "wherry",
        language: str = "en",
        content_type: str = "text",
        extract_format: str = "WIKI",
    ) -> None:
        super().__init__()
        if content_type not in ("text", "summary"):
            raise ValueError("content_type must be either 'summary' or 'text'")
        self.user_agent, self.language = user_agent, language
        self.content_type, self.extract_format = content_type, extract_format

    async def awaited(self, query: str) -> str:
        from wherry.compat.smolagents.web import article

        return await article(query, self.language, summary=self.content_type == "summary")


async def _no_tools(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    raise ToolError(f"there is no tool {name!r} here")


TOOL_MAPPING: dict[str, type[Tool]] = {
    kind.name: kind for kind in (PythonInterpreterTool, DuckDuckGoSearchTool, VisitWebpageTool)
}


def __getattr__(name: str) -> Any:  # Any: whatever the name stands for
    """The tools with keys stand here for smolagents; they are made of those above."""
    if name in ("ApiWebSearchTool", "GoogleSearchTool"):
        from wherry.compat.smolagents import search_apis

        return getattr(search_apis, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
