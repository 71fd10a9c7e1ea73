"""`web_search` over the web, by `ddgs` (extra `web`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wherry.errors import MissingExtra, ToolError
from wherry.tools.tool import Tool

NO_ANSWER = (
    "the search gave no answer (blocked, failing or empty: it does not say which); try other words, or go on without it"
)
"""`ddgs` says `No results found` for a block, an error and an empty page alike, so nothing may be concluded from it."""


class WebSearch(Tool):
    """Searches the web and gives titles, addresses and snippets, as text.

    Args:
        results: Results of one search.
        max_chars: Characters of one answer.
        seconds: What one search engine may take.
        region: As `ddgs` names regions: `us-en`, `de-de`, `wt-wt` for none.
    """

    name = "web_search"
    description = "Search the web."
    timeout = 60.0

    def __init__(self, *, results: int = 5, max_chars: int = 3_000, seconds: int = 10, region: str = "us-en") -> None:
        self.results = results
        self.max_chars = max_chars
        self.seconds = seconds
        self.region = region

    def forward(self, query: str) -> str:
        """Search.

        Args:
            query: a few words
        """
        if not query.strip():
            raise ToolError("the query is empty")
        try:
            from ddgs import DDGS  # pyright: ignore[reportUnknownVariableType]
            from ddgs.exceptions import DDGSException
        except ImportError as error:
            raise MissingExtra("web_search", "web") from error
        try:
            found = DDGS(timeout=self.seconds).text(query, region=self.region, max_results=self.results)
        except DDGSException as error:
            raise ToolError(NO_ANSWER) from error
        if not found:
            raise ToolError(NO_ANSWER)
        return listing(found, max_chars=self.max_chars)


def listing(found: Sequence[Mapping[str, object]], *, max_chars: int) -> str:
    """Results as `ddgs` gives them (`title`, `href`, `body`) as numbered text of at most `max_chars` characters.

    Every result keeps its title and address; it is the snippets that are cut.
    """
    heads = [f"{n}. {_line(one.get('title'), 120)}\n   {_line(one.get('href'), 300)}" for n, one in enumerate(found, 1)]
    room = max((max_chars - sum(map(len, heads))) // max(len(heads), 1) - 5, 0)
    texts = (f"{head}\n   {_line(one.get('body'), room)}" for head, one in zip(heads, found, strict=True))
    return "\n".join(texts)[:max_chars]


def _line(value: object, limit: int) -> str:
    text = " ".join(str(value or "").split())
    return text if len(text) <= limit else f"{text[: max(limit - 1, 0)]}…"
