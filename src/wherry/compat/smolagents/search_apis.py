"""Searches by services that want a key, by smolagents' names."""

# ruff: noqa: RUF012  # tables of inputs stand where tools of smolagents have them

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, cast  # Any: JSON
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from xml.etree import ElementTree

from wherry.compat.smolagents.tools import Tool
from wherry.errors import ToolError
from wherry.models.api_key import ApiKey
from wherry.redaction import hold, redact
from wherry.tools.egress import check_egress
from wherry.tools.values import brief

SECONDS = 30.0
LARGEST = 5_000_000
"""Bytes of an answer."""
HEAD = "## Search Results\n\n"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key is for the host that it was given for."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


class GoogleSearchTool(Tool):
    """Google's results, by SerpApi (`"serpapi"`, `$SERPAPI_API_KEY`) or Serper (`"serper"`, `$SERPER_API_KEY`).

    Raises:
        ValueError: the key is missing.
    """

    name = "web_search"
    description = "Performs a google web search for your query then returns a string of the top search results."
    inputs = {
        "query": {"type": "string", "description": "The search query to perform."},
        "filter_year": {
            "type": "integer",
            "description": "Optionally restrict results to a certain year",
            "nullable": True,
        },
    }
    output_type = "string"
    timeout = 90.0
    untrusted = True

    def __init__(self, provider: str = "serpapi") -> None:
        super().__init__()
        self.provider = provider
        serpapi = provider == "serpapi"
        self.organic_key = "organic_results" if serpapi else "organic"
        self.endpoint = "https://serpapi.com/search.json" if serpapi else "https://google.serper.dev/search"
        self.api_key = _key("SERPAPI_API_KEY" if serpapi else "SERPER_API_KEY")
        hold(self.api_key, self)

    def forward(self, query: str, filter_year: int | None = None) -> str:
        asked: dict[str, Any] = {"q": query}
        if filter_year is not None:
            asked["tbs"] = f"cdr:1,cd_min:01/01/{filter_year},cd_max:12/31/{filter_year}"
        if self.provider == "serpapi":
            more = {"engine": "google", "google_domain": "google.com", "api_key": self.api_key}
            found = _json(f"{self.endpoint}?{urlencode({**asked, **more})}", shown=self.endpoint)
        else:
            found = _json(self.endpoint, headers={"X-API-KEY": self.api_key}, body=asked)
        pages = cast("list[dict[str, Any]]", found.get(self.organic_key) or [])
        if not pages:
            within = "" if filter_year is None else f" with filter year={filter_year}"
            return f"No results found for {query!r}{within}. Try a more general query, or leave the year out."
        return HEAD.rstrip() + "\n" + "\n\n".join(_page(number, page) for number, page in enumerate(pages))


class ApiWebSearchTool(Tool):
    """A search service with a key: Brave's, or another whose answers look like it.

    Args:
        endpoint: None: Brave's.
        api_key: None: what `api_key_name` says.
        api_key_name: the variable of the environment; `BRAVE_API_KEY` without it.
        headers: instead of the one that Brave wants the key in.
        params: of each request, besides the query.
        rate_limit: requests per second; None: any.
    """

    name = "web_search"
    description = (
        "Performs a web search for a query and returns a string of the top search results formatted as markdown with "
        "titles, URLs, and descriptions."
    )
    inputs = {"query": {"type": "string", "description": "The search query to perform."}}
    output_type = "string"
    timeout = 90.0
    untrusted = True

    def __init__(
        self,
        endpoint: str = "",
        api_key: str = "",
        api_key_name: str = "",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        rate_limit: float | None = 1.0,
    ) -> None:
        super().__init__()
        self.endpoint = endpoint or "https://api.search.brave.com/res/v1/web/search"
        self.api_key_name = api_key_name or "BRAVE_API_KEY"
        self.api_key = api_key or os.environ.get(self.api_key_name, "")
        hold(self.api_key, self)
        self.headers = dict(headers or {"X-Subscription-Token": self.api_key})
        self.params = dict(params or {"count": 10})
        self.rate_limit = rate_limit
        self._lock = threading.Lock()
        self._next = 0.0
        """When the next request may be made."""

    def forward(self, query: str) -> str:
        self._wait()
        found = _json(f"{self.endpoint}?{urlencode({**self.params, 'q': query})}", headers=self.headers)
        return self.format_markdown(self.extract_results(found))

    def extract_results(self, data: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What of an answer is told; for a service of another shape, write this anew."""
        results = cast("list[dict[str, Any]]", cast("Mapping[str, Any]", data.get("web") or {}).get("results") or [])
        return [
            {"title": one["title"], "url": one["url"], "description": one.get("description", "")} for one in results
        ]

    def format_markdown(self, results: Sequence[Mapping[str, Any]]) -> str:
        if not results:
            return "No results found."
        told = (
            f"{number}. [{one['title']}]({one['url']})\n{one['description']}" for number, one in enumerate(results, 1)
        )
        return HEAD + "\n\n".join(told)

    def _wait(self) -> None:
        if not self.rate_limit:
            return
        with self._lock:
            now = time.monotonic()
            begin = max(now, self._next)
            self._next = begin + 1.0 / self.rate_limit
        if begin > now:
            time.sleep(begin - now)


def exa(query: str, most: int, endpoint: str = "https://api.exa.ai/search") -> list[dict[str, str]]:
    """Results of Exa (`$EXA_API_KEY`).

    Raises:
        ValueError: the key is missing.
        ToolError: there was no answer.
    """
    body = {"query": query, "numResults": most, "contents": {"highlights": True}}
    key = ApiKey(_key("EXA_API_KEY"), "EXA_API_KEY")
    found = _json(endpoint, headers={"x-api-key": key.reveal()}, body=body)
    return [
        {
            "title": str(one.get("title") or ""),
            "link": str(one["url"]),
            "description": " ".join(one.get("highlights") or ()),
        }
        for one in cast("list[dict[str, Any]]", found.get("results") or [])
    ]


def bing(query: str, most: int, endpoint: str = "https://www.bing.com/search") -> list[dict[str, str]]:
    """Results of Bing, as its feed has them.

    Raises:
        ToolError: there was no answer.
    """
    data = _asked(f"{endpoint}?{urlencode({'q': query, 'format': 'rss'})}", {}, None, endpoint)
    try:
        items = ElementTree.fromstring(data).findall(".//item")[:most]  # noqa: S314 - expat bounds what entities become
    except ElementTree.ParseError as error:
        raise ToolError(f"{endpoint}: the answer is no feed ({error})") from error
    return [{key: one.findtext(key) or "" for key in ("title", "link", "description")} for one in items]


def listed(results: Sequence[Mapping[str, str]]) -> str:
    """Results as text.

    Raises:
        ToolError: there are none.
    """
    if not results:
        raise ToolError("No results found! Try a less restrictive/shorter query.")
    return HEAD + "\n\n".join(f"[{one['title']}]({one['link']})\n{one['description']}" for one in results)


def _page(number: int, page: Mapping[str, Any]) -> str:
    date = f"\nDate published: {page['date']}" if "date" in page else ""
    source = f"\nSource: {page['source']}" if "source" in page else ""
    snippet = f"\n{page['snippet']}" if "snippet" in page else ""
    return f"{number}. [{page['title']}]({page['link']}){date}{source}\n{snippet}"


def _key(name: str) -> str:
    key = os.environ.get(name)
    if not key:
        raise ValueError(f"Missing API key. Make sure you have '{name}' in your env variables.")
    return key


def _json(
    url: str, *, headers: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None, shown: str = ""
) -> dict[str, Any]:
    shown = shown or url.partition("?")[0]
    try:
        found: object = json.loads(_asked(url, headers or {}, body, shown))
    except ValueError as error:
        raise ToolError(f"{shown}: the answer is no JSON") from error
    if not isinstance(found, dict):
        raise ToolError(f"{shown}: the answer is no object")
    return cast("dict[str, Any]", found)


def _asked(url: str, headers: Mapping[str, str], body: Mapping[str, Any] | None, shown: str) -> bytes:
    check_egress(url)
    data = None if body is None else json.dumps(body).encode()
    more = {"User-Agent": "wherry", **({} if data is None else {"Content-Type": "application/json"}), **headers}
    try:
        request = urllib.request.Request(url, data, more)  # noqa: S310 - the program's own address
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=SECONDS) as answer:
            return cast("bytes", answer.read(LARGEST))
    except HTTPError as error:
        with error:
            said = redact(error.read(2_000).decode(errors="replace"))  # some repeat the key that they were sent
        raise ToolError(f"{shown} refused the search (status {error.code}): {brief(said, 500)}") from None
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise ToolError(f"{shown} cannot be had: {brief(str(reason), 300)}") from None
