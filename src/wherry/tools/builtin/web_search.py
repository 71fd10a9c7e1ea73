"""`web_search` over the web, by the engines of `ddgs` (extra `web`).

Engines block programs, fail and change their pages. `ddgs` itself says `No results found` for a block, an error and an
empty page alike, so engines are asked one by one here, and what came of each is told apart: results, a page without
results, no answer. That there is nothing to be found is only said where two independent engines said it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, cast  # Any: `ddgs` gives its engines no types

from wherry.errors import ConfigurationError, MissingExtra, ToolError
from wherry.tools.egress import check_egress
from wherry.tools.tool import Tool
from wherry.tools.values import brief

ENGINES = ("duckduckgo", "brave", "mojeek", "startpage", "yahoo", "yandex", "google", "wikipedia")
"""In the order in which they are asked, until one has results."""
_AGREEING = 2
"""Engines, each with an index of its own, that must have found nothing before that is believed."""
_NO_INDEX_OF_THE_WEB = frozenset({"wikipedia", "grokipedia"})
"""What they do not have may well be on the web."""

# Pages that are answered with 200 and hold no results because they ask whether a person is there.
_BLOCKED = re.compile(
    r"captcha|unusual traffic|anomaly|are you a (?:human|robot)|not a robot|verify (?:that )?you|access denied"
    r"|enable javascript|too many requests|cf-challenge|detected an automated|suspicious",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What came of asking one engine."""

    found: Sequence[Mapping[str, object]] = ()
    answered: bool = False
    """Whether it gave a page that may be believed."""
    why: str = ""


class WebSearch(Tool):
    """Searches the web and gives titles, addresses and snippets, as text that is marked as data from outside.

    Args:
        results: Results of one search.
        max_chars: Characters of one answer.
        seconds: What one search engine may take.
        region: As `ddgs` names regions: `us-en`, `de-de`, `wt-wt` for none.
        engines: Of `ddgs`, in the order in which they are asked until one has results.
        cache: Seconds that an answer is given again, from the run's store; None: never. That an answer could not be
            had is not kept.
    """

    name = "web_search"
    description = "Search the web."
    timeout = 90.0
    untrusted = True

    def __init__(
        self,
        *,
        results: int = 5,
        max_chars: int = 3_000,
        seconds: int = 10,
        region: str = "us-en",
        engines: Sequence[str] = ENGINES,
        cache: float | None = 3_600.0,
    ) -> None:
        if isinstance(engines, str) or not engines:
            raise ConfigurationError(f"engines is {engines!r}", hint='names in a list: ["duckduckgo", "brave"]')
        self.results = results
        self.max_chars = max_chars
        self.seconds = seconds
        self.region = region
        self.engines = tuple(engines)
        self.cache = cache

    def forward(self, query: str) -> str:
        """Search.

        Args:
            query: a few words
        """
        if not query.strip():
            raise ToolError("the query is empty")
        known = _engines()
        empty: dict[str, str] = {}  # provider -> engine
        failed: list[str] = []
        for name in self.engines:
            if name not in known:
                failed.append(f"{name}: not in this version of ddgs")
                continue
            asked = self._ask(known[name], query)
            if asked.found:
                return listing(asked.found[: self.results], max_chars=self.max_chars)
            if not asked.answered:
                failed.append(f"{name}: {asked.why}")
                continue
            if name in _NO_INDEX_OF_THE_WEB:
                failed.append(f"{name}: nothing")
                continue
            empty.setdefault(str(known[name].provider), name)
            if len(empty) >= _AGREEING:
                return f"No results: {' and '.join(empty.values())} found nothing for {brief(query, 200)}."
        said = "; ".join([*failed, *(f"{name}: nothing" for name in empty.values())])
        raise ToolError(
            f"unknown: the search gave no answer that can be relied on ({said[:1_000]}); "
            "nothing follows from it: try other words, or go on without it"
        )

    def _ask(self, kind: Any, query: str) -> _Asked:
        pages: list[str] = []
        try:
            check_egress(str(kind.search_url))
            engine = kind(timeout=self.seconds)
            request = engine.request

            def heard(*args: Any, **kwargs: Any) -> Any:
                page = request(*args, **kwargs)
                pages.append(page or "")
                return page

            engine.request = heard
            found = engine.search(query, region=self.region)
        except ToolError as refused:
            return _Asked(why=refused.message)
        except Exception as error:  # noqa: BLE001 - the network, a parser of a page that has changed, whatever else
            return _Asked(why=brief(str(error) or type(error).__name__, 200))
        if rows := [row for row in map(_row, found or ()) if row.get("href") and row.get("title")]:
            return _Asked(rows)
        if not pages or not any(pages):
            return _Asked(why="refused the request")
        if any(_BLOCKED.search(page[:200_000]) for page in pages):
            return _Asked(why="asked for a person")
        return _Asked(answered=True)


def _engines() -> Mapping[str, Any]:
    try:
        from ddgs.engines import ENGINES as KNOWN
    except ImportError as error:
        raise MissingExtra("web_search", "web") from error
    return cast("Mapping[str, Any]", KNOWN.get("text", {}))


def _row(result: Any) -> Mapping[str, object]:
    if isinstance(result, Mapping):
        return cast("Mapping[str, object]", result)
    return asdict(result) if is_dataclass(result) and not isinstance(result, type) else dict(vars(result))


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
