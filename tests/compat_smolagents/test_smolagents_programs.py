"""Programs as people write them for smolagents, with another import line, on a server that is strict."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from tests.compat_smolagents.strict_server import call, strict_server

from wherry.agents import portal

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(autouse=True)
def _memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERRY_STORE", "memory://")


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(name: str, url: str) -> list[str]:
        monkeypatch.setenv("MODEL_URL", url)
        left = runpy.run_path(str(PROGRAMS / f"{name}.py"), run_name="__main__")
        portal.call(left["agent" if "agent" in left else "manager_agent"].model.core().aclose)
        return capsys.readouterr().out.splitlines()

    return run


def block(code: str) -> str:
    return f"Thought: let me see.\n<code>\n{code}\n</code>"


def test_any_model(printed: Any) -> None:
    with strict_server(
        [call("get_weather", location="Paris", celsius=True)],
        [call("final_answer", "call_2", answer="rain, -10")],
        block("get_weather(location='Paris')"),
        block("final_answer(get_weather('Paris', celsius=True))"),
    ) as server:
        lines = printed("any_model", server.url)
    assert lines == ["ToolCallingAgent: rain, -10", "CodeAgent: Rain in Paris, at -10 degrees"]
    assert server.requests[1]["messages"][-1]["content"] == "Rain in Paris, at -10 degrees"
    assert server.requests[0]["temperature"] == 0.2
    weather = next(t["function"] for t in server.requests[0]["tools"] if t["function"]["name"] == "get_weather")
    assert weather["parameters"]["required"] == ["location"]
    assert "Rain in Paris, at 14 degrees" in server.requests[3]["messages"][-1]["content"]


def test_many_tools(printed: Any) -> None:
    with strict_server(
        [
            call("convert_currency", "a", amount=5000, from_currency="USD", to_currency="EUR"),
            call("get_news_headlines", "b"),
            call("get_time", "c", zone="Europe/Paris"),
        ],
        [call("final_answer", "d", answer="4500 euros, noon, no news")],
    ) as server:
        lines = printed("many_tools", server.url)
    assert lines[0] == "4500 euros, noon, no news"
    assert lines[1].startswith("1 ['convert_currency', 'get_news_headlines', 'get_time'] 5000.0 USD is 4500.00 EUR.")
    assert lines[2] == "noon in Europe/Paris AgentToolExecutionError"
    results = [m["content"] for m in server.requests[1]["messages"] if m["role"] == "tool"]
    assert results == [
        "5000.0 USD is 4500.00 EUR.",
        "Error: ConnectionError: the news are down",
        "noon in Europe/Paris",
    ]


def test_retrieval(printed: Any) -> None:
    with strict_server(
        block("found = retriever('the backward pass takes longer')\nprint(found)"),
        block("final_answer('the backward pass')"),
    ) as server:
        assert printed("retrieval", server.url) == ["Final output:", "the backward pass"]
    assert "===== Document 0 =====\nThe backward pass" in server.requests[1]["messages"][-1]["content"]
    assert "retriever" in server.requests[0]["messages"][0]["content"]


def test_sql(printed: Any) -> None:
    query = "SELECT customer_name FROM receipts ORDER BY price DESC LIMIT 1"
    with strict_server(
        block(f'row = sql_engine("{query}")'),
        block("import re\nfinal_answer(re.sub(r'[^A-Za-z ]', '', row).strip())"),
    ) as server:
        assert printed("sql", server.url) == ["Woodrow Wilson"]
    assert "('Woodrow Wilson',)" in server.requests[1]["messages"][-1]["content"], "the last assignment is shown"
    assert "The table is named 'receipts'" in server.requests[0]["messages"][0]["content"]


def test_team(printed: Any) -> None:
    with strict_server(
        block("answer = math_specialist(task='the smallest prime factor of 5! + 1')"),
        block("final_answer(smallest_prime_factor(factorial(5) + 1))"),
        block("note = research_specialist(task='note it', additional_args={'number': 11})"),
        [call("memo", "m1", action="set", key="factor", value="11")],
        [call("final_answer", "m2", answer="noted")],
        block("final_answer('11, noted')"),
    ) as server:
        lines = printed("team", server.url)
    assert lines == [
        "step 1 of CodeAgent",
        "step 2 of CodeAgent",
        "step 3 of CodeAgent",
        "11, noted",
        "TokenUsage(input_tokens=150, output_tokens=30, total_tokens=180)",
        "the smallest prime factor of 5! + 1 | 2",
    ]
    told = [request["messages"][-1]["content"] for request in server.requests]
    assert "Here is the final answer from your managed agent 'math_specialist':\n11" in told[2]
    assert "number: int, 2 characters: 11" in told[3]
    assert "<summary_of_work>" in told[5]


@pytest.mark.slow
def test_structured(printed: Any) -> None:
    with strict_server(block("final_answer(get_weather_info(city='Tokyo')['temperature'] * 9 / 5 + 32)")) as server:
        lines = printed("structured", server.url)
    assert lines == ["partly cloudy", "72.5", "['get_weather_info']"]
    assert "get_weather_info" in server.requests[0]["messages"][0]["content"]


def test_every_program_needs_its_import_line_changed_and_nothing_else() -> None:
    for path in PROGRAMS.glob("*.py"):
        imports = [line for line in path.read_text().splitlines() if "import" in line and "wherry" in line]
        assert len(imports) == 1, path.name
        assert imports[0].startswith("from wherry.compat.smolagents import ")
