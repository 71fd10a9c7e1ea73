"""`web_search` with the engines of `ddgs` themselves, their pages served on loopback."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from tests.tools.pages import Answer, Pages, Site, serving

from wherry import open_store
from wherry.errors import ConfigurationError, MissingExtra, ToolError
from wherry.tools import Egress, ToolContext, use_context
from wherry.tools.builtin import WebSearch

pytestmark = pytest.mark.anyio

engines: Any = pytest.importorskip("ddgs.engines")
# Their proxies are the environment's; loopback needs none.
RESULT = (
    "<div class='snippet' data-type='web'><a href='{url}'><div class='title'>{title}</div></a>"
    "<div class='snippet'><div class='content'>{body}</div></div></div>"
)
EMPTY = "<html><body><div id='results'>Nothing matches your search.</div></body></html>"


def point(monkeypatch: pytest.MonkeyPatch, site: Site, *names: str) -> None:
    for name in names:
        monkeypatch.setattr(engines.ENGINES["text"][name], "search_url", site.url(f"/{name}"))


def results(count: int, body: str = "Boats of Norfolk.") -> str:
    rows = (RESULT.format(url=f"https://example.org/{n}", title=f"T{n}", body=body) for n in range(count))
    return f"<html><body>{''.join(rows)}</body></html>"


class Serving:
    """Answers by the engine's name; whatever is asked for besides."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: Answer) -> None:
        self._monkeypatch = monkeypatch
        self._answers = answers

    def __enter__(self) -> Site:
        def found(handler: Any) -> Answer:
            return self._answers[handler.path[1:].partition("?")[0]]

        pages: Pages = {"*": found}
        self._serving = serving(pages)
        site = self._serving.__enter__()
        point(self._monkeypatch, site, *self._answers)
        return site

    def __exit__(self, *error: Any) -> None:
        self._serving.__exit__(*error)


async def search(*names: str, **options: Any) -> str:
    return str(await WebSearch(engines=names, **options).call({"query": "wherry boats"}))


async def test_results(monkeypatch: pytest.MonkeyPatch) -> None:
    with Serving(monkeypatch, brave=Answer(results(8))) as site:
        text = await search("brave", results=3)
    assert text.startswith("1. T0\n   https://example.org/0\n   Boats of Norfolk.")
    assert "3. T2" in text
    assert "4. T3" not in text
    assert any("wherry" in path for path in site.paths)


async def test_the_next_engine_is_asked_where_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with Serving(monkeypatch, mojeek=Answer("no", 503), brave=Answer(results(1))):
        assert "T0" in await search("mojeek", "brave")


async def test_nothing_is_said_where_two_engines_found_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Serving(monkeypatch, mojeek=Answer(EMPTY), brave=Answer(EMPTY)):
        assert await search("mojeek", "brave") == "No results: mojeek and brave found nothing for 'wherry boats'."


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer("no", 403), "refused"),
        (Answer("no", 429), "refused"),
        (Answer("<html><body>Please complete the CAPTCHA</body></html>"), "asked for a person"),
        (Answer("<html><body>We detected unusual traffic</body></html>"), "asked for a person"),
        (Answer(""), "refused"),
    ],
)
async def test_a_block_is_unknown_and_not_nothing(monkeypatch: pytest.MonkeyPatch, answer: Answer, why: str) -> None:
    asked = Serving(monkeypatch, mojeek=answer, brave=Answer(EMPTY))
    with asked, pytest.raises(ToolError, match="unknown: ") as caught:
        await search("mojeek", "brave")
    assert why in caught.value.message
    assert "brave: nothing" in caught.value.message


async def test_one_index_under_two_names_is_one_witness(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = engines.ENGINES["text"]
    assert kinds["duckduckgo"].provider == kinds["yahoo"].provider == "bing"
    asked = Serving(monkeypatch, duckduckgo=Answer(EMPTY), yahoo=Answer(EMPTY))
    with asked, pytest.raises(ToolError, match="unknown"):
        await search("duckduckgo", "yahoo")


async def test_an_encyclopedia_is_no_witness(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not in Wikipedia may well be on the web."""
    nothing = Answer(b'["wherry boats", [], [], []]', media_type="application/json")

    def payload(*_: object, **__: object) -> dict[str, str]:
        return {}

    # The engine itself, but for the address that it makes for each language.
    monkeypatch.setattr(engines.ENGINES["text"]["wikipedia"], "build_payload", payload)
    with Serving(monkeypatch, wikipedia=nothing, mojeek=Answer(EMPTY)), pytest.raises(ToolError) as caught:
        await search("wikipedia", "mojeek")
    assert "unknown" in caught.value.message
    assert "wikipedia: nothing; mojeek: nothing" in caught.value.message


async def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.ENGINES["text"]["brave"], "search_url", "http://127.0.0.1:1/")
    with pytest.raises(ToolError, match=r"unknown: .*brave"):
        await search("brave", "an engine that ddgs has not")


async def test_what_is_known_is_kept_and_what_is_not_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store("memory://")
    with use_context(ToolContext("r", "a", None, store)):
        with Serving(monkeypatch, brave=Answer("no", 500)) as site:
            for _ in range(2):
                with pytest.raises(ToolError):
                    await search("brave")
            assert len(site.asked) == 2
        with Serving(monkeypatch, brave=Answer(results(1))) as site:
            assert await search("brave") == await search("brave")
            assert len(site.asked) == 1


async def test_hosts_that_a_policy_does_not_name_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ToolContext("r", "a", None, open_store("memory://"), egress=(Egress(["example.org"]),))
    with Serving(monkeypatch, brave=Answer(results(1))) as site, use_context(context):
        with pytest.raises(ToolError, match="not among"):
            await search("brave")
        assert site.asked == []


@pytest.mark.parametrize("wrong", ["brave", ()])
def test_engines_that_cannot_be(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="engines"):
        WebSearch(engines=wrong)


async def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ddgs.engines", None)
    with pytest.raises(MissingExtra, match=r"wherry\[web\]"):
        await search("brave")
