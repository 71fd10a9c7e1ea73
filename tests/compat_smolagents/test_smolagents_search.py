"""Searches by services with keys, against a server on this machine that answers as they do."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.compat_smolagents.test_smolagents_face import actions, calls, tool_agent

from wherry.compat.smolagents import ApiWebSearchTool, GoogleSearchTool, WebSearchTool, search_apis
from wherry.compat.smolagents.default_tools import GoogleSearchTool as AsImported
from wherry.errors import ToolError

FEED = b"""<rss><channel>
<item><title>Boats</title><link>http://b.test</link><description>They float.</description></item>
<item><title>More</title><link>http://m.test</link></item></channel></rss>"""


class Service:
    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], dict[str, str], Any]] = []
        self.answers: list[tuple[int, bytes]] = []
        self.url = ""

    def gives(self, data: Any, status: int = 200) -> None:
        self.answers.append((status, data if isinstance(data, bytes) else json.dumps(data).encode()))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Generator[Service]:
    monkeypatch.setenv("WHERRY_STORE", "memory://")
    for name in ("SERPAPI_API_KEY", "SERPER_API_KEY", "EXA_API_KEY", "BRAVE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    held = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            held.asked.append((parts.path, query, {k.lower(): v for k, v in self.headers.items()}, body))
            status, data = held.answers.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if status == 302:
                self.send_header("Location", f"{held.url}/elsewhere")
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    held.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield held
    server.shutdown()
    server.server_close()


def test_google_by_either_provider(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    assert AsImported is GoogleSearchTool
    with pytest.raises(ValueError, match="'SERPER_API_KEY'"):
        GoogleSearchTool(provider="serper")
    monkeypatch.setenv("SERPER_API_KEY", "S1")
    monkeypatch.setenv("SERPAPI_API_KEY", "S2")
    serper, serpapi = GoogleSearchTool(provider="serper"), GoogleSearchTool()
    serper.endpoint = serpapi.endpoint = f"{service.url}/search"
    page = {"title": "T", "link": "http://t.test", "snippet": "says", "date": "May 1", "source": "S"}
    service.gives({"organic": [page]})
    said = serper("boats", filter_year=2020)
    assert said == "## Search Results\n0. [T](http://t.test)\nDate published: May 1\nSource: S\n\nsays"
    _, query, headers, body = service.asked[0]
    assert (query, headers["x-api-key"]) == ({}, "S1")
    assert body == {"q": "boats", "tbs": "cdr:1,cd_min:01/01/2020,cd_max:12/31/2020"}
    service.gives({"organic_results": []})
    assert "No results found for 'boats'" in serpapi("boats")
    assert service.asked[1][1] == {"q": "boats", "engine": "google", "google_domain": "google.com", "api_key": "S2"}
    service.gives({"error": "bad key"}, 401)
    with pytest.raises(ToolError, match=r"/search refused the search \(status 401\).*bad key") as refused:
        serpapi("boats")
    assert "S2" not in str(refused.value)


def test_a_service_of_ones_own(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "K")
    search = ApiWebSearchTool(
        endpoint=f"{service.url}/web", api_key_name="MY_KEY", params={"count": 2}, rate_limit=None
    )
    service.gives({"web": {"results": [{"title": "T", "url": "http://t.test", "description": "d"}]}})
    service.gives({})
    agent = tool_agent(
        calls(("web_search", {"query": "boats"})), calls(("final_answer", {"answer": "ok"})), tools=[search]
    )
    assert agent.run("go") == "ok"
    assert "1. [T](http://t.test)\nd" in str(actions(agent)[0].observations)
    path, query, headers, _ = service.asked[0]
    assert (path, query, headers["x-subscription-token"]) == ("/web", {"count": "2", "q": "boats"}, "K")
    assert search("nothing") == "No results found."


def test_a_key_is_not_carried_elsewhere(service: Service) -> None:
    service.gives(b"", 302)
    with pytest.raises(ToolError, match="status 302"):
        ApiWebSearchTool(endpoint=service.url, api_key="K", rate_limit=None)("x")
    assert len(service.asked) == 1
    service.gives(b"no json")
    with pytest.raises(ToolError, match="no JSON"):
        ApiWebSearchTool(endpoint=service.url, rate_limit=None)("x")
    with pytest.raises(ToolError, match="cannot be had"):
        ApiWebSearchTool(endpoint="http://127.0.0.1:1/", rate_limit=None)("x")


def test_requests_are_spaced(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(search_apis.time, "sleep", waits.append)
    monkeypatch.setattr(search_apis.time, "monotonic", lambda: 100.0)
    search = ApiWebSearchTool(endpoint=service.url, rate_limit=4.0)
    for _ in range(3):
        service.gives({})
        search("x")
    assert waits == [0.25, 0.5]


def test_engines_by_name(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="Unsupported engine: oracle"):
        WebSearchTool(engine="oracle")
    with pytest.raises(ValueError, match="EXA_API_KEY"):
        WebSearchTool(engine="exa")("boats")
    monkeypatch.setenv("EXA_API_KEY", "E")
    found = {
        "results": [{"url": "http://a.test", "title": None, "highlights": None}, {"url": "b", "highlights": ["x", "y"]}]
    }
    service.gives(found)
    results = search_apis.exa("boats", 2, service.url)
    assert search_apis.listed(results) == "## Search Results\n\n[](http://a.test)\n\n\n[](b)\nx y"
    assert service.asked[0][2]["x-api-key"] == "E"
    assert service.asked[0][3] == {"query": "boats", "numResults": 2, "contents": {"highlights": True}}
    service.gives(FEED)
    assert search_apis.bing("boats", 1, service.url) == [
        {"title": "Boats", "link": "http://b.test", "description": "They float."}
    ]
    service.gives(b"<html>")
    with pytest.raises(ToolError, match="no feed"):
        search_apis.bing("boats", 1, service.url)
    with pytest.raises(ToolError, match="No results found! Try"):
        search_apis.listed([])


def test_a_service_that_repeats_its_key_tells_nobody(service: Service) -> None:
    search = ApiWebSearchTool(endpoint=service.url, api_key="of-this-test-0123456789", rate_limit=None)
    service.gives({"error": "of-this-test-0123456789 has spent what it may"}, 429)
    with pytest.raises(ToolError, match="has spent") as refused:
        search("x")
    assert "of-this-test" not in str(refused.value)
