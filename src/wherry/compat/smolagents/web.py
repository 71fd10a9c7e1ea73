"""The web for the tools of this face, through wherry's own: its limits, its checks of addresses."""

from __future__ import annotations

import json
from typing import Any, cast  # Any: JSON
from urllib.parse import urlencode

from wherry.compat.smolagents.text import truncate_content
from wherry.errors import ToolError


async def visit(url: str, most: int) -> str:
    """A page's text."""
    from wherry.tools.builtin.visit_webpage import VisitWebpage

    return truncate_content(str(await VisitWebpage(cache=None).forward(url)), most)


async def article(query: str, language: str, *, summary: bool, origin: str | None = None) -> str:
    """An article of Wikipedia.

    Args:
        query: its title, or near enough.
        language: of the Wikipedia.
        summary: its beginning only.
        origin: of another wiki, scheme and host.

    Raises:
        ToolError: there is none, or it could not be had.
    """
    home = origin or f"https://{language}.wikipedia.org"
    asked = {
        "action": "query",
        "format": "json",
        "prop": "extracts|info",
        "inprop": "url",
        "explaintext": 1,
        "redirects": 1,
        "generator": "search",
        "gsrsearch": query,
        "gsrlimit": 1,
        **({"exintro": 1} if summary else {}),
    }
    found = await _json(f"{home}/w/api.php?{urlencode(asked)}")
    answer = cast("dict[str, Any]", found.get("query") or {})
    pages = cast("dict[str, dict[str, Any]]", answer.get("pages") or {})
    if not pages:
        raise ToolError(f"No Wikipedia page found for {query!r}. Try a different query.")
    page = next(iter(pages.values()))
    text = str(page.get("extract") or "")
    link = page.get("fullurl", home)
    return f"✅ **Wikipedia Page:** {page['title']}\n\n**Content:** {text}\n\n🔗 **Read more:** {link}"


async def _json(url: str) -> dict[str, Any]:
    from wherry.tools.fetching import FetchRules, fetch

    got = await fetch(url, FetchRules())
    try:
        return cast("dict[str, Any]", json.loads(got.data))
    except ValueError as error:
        raise ToolError(f"{url}: the answer (status {got.status}) is no JSON") from error
