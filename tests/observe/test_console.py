"""What a person sees of a run."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from wherry.journal import Event, EventType
from wherry.messages import Usage
from wherry.observe.console import Console
from wherry.observe.lines import gauge, seconds

E = EventType
USAGE = Usage(1, 1000, 400, 20, seconds=1.5).to_json()


class Story:
    """Events as a journal would give them."""

    def __init__(self) -> None:
        self._seq = 0
        self._parents: dict[str, str | None] = {}
        self._agents: dict[str, str] = {}

    def started(self, run: str, agent: str, parent: str | None = None, **payload: Any) -> Event:
        self._parents[run], self._agents[run] = parent, agent
        base = {"task": f"task of {agent}", "kind": "code", "model": "m", "window": 8192, "tier": "namespaces"}
        return self(run, E.RUN_STARTED, **{**base, "session": None, **payload})

    def finished(self, run: str, **payload: Any) -> Event:
        base = {"status": "completed", "preview": "42", "output": 42, "ref": None, "usage": USAGE, "steps": 2}
        return self(run, E.RUN_FINISHED, **{**base, "error": None, **payload})

    def __call__(self, run: str, type_: EventType, **payload: Any) -> Event:
        self._seq += 1
        return Event(run, self._parents[run], self._agents[run], self._seq, 0.0, type_, payload)


def nested() -> Iterator[Event]:
    story = Story()
    yield story.started("aaaa", "boss")
    yield story("aaaa", E.MODEL_REQUESTED, step=1, tokens=4096, window=8192)
    yield story("aaaa", E.MODEL_REPLIED, step=1, usage=USAGE, seconds=1.5, finish_reason="stop", model="m")
    yield story("aaaa", E.CODE_STARTED, step=1, code="x = helper('go')\nprint(x)\n")
    yield story("aaaa", E.AGENT_CALLED, step=1, name="helper", run_id="bbbb", task="go")
    yield story.started("bbbb", "helper", "aaaa", kind="tools", tier=None)
    yield story("bbbb", E.TOOL_CALLED, step=1, call="1", name="web_search", arguments={"query": "Iceland", "n": 3})
    yield story(
        "bbbb", E.TOOL_RETURNED, step=1, call="1", name="web_search", ok=True, preview="an\nisland", seconds=0.25
    )
    yield story("bbbb", E.TOOL_CALLED, step=2, call="2", name="nix", arguments={})
    yield story("bbbb", E.TOOL_RETURNED, step=2, call="2", name="nix", ok=False, preview="Error: no", seconds=0.0)
    yield story.finished("bbbb")
    yield story("aaaa", E.AGENT_RETURNED, step=1, name="helper", run_id="bbbb", status="completed", preview="42")
    yield story(
        "aaaa",
        E.CODE_FINISHED,
        step=1,
        ok=False,
        kind="exception",
        stdout="42\n",
        value=None,
        error="Traceback:\nZeroDivisionError: division by zero",
        seconds=2.0,
        tier="namespaces",
        refused=["socket"],
        final=False,
    )
    yield story(
        "aaaa",
        E.CONTEXT_OFFLOADED,
        ref="artifact_1",
        bytes=52428800,
        media_type="text/plain",
        tokens_before=13_000_000,
        tokens_after=300,
    )
    yield story(
        "aaaa", E.CONTEXT_COMPACTED, groups=3, tokens_before=7000, tokens_after=3900, summary="d", how="extract"
    )
    yield story("aaaa", E.TOOLS_CHANGED, added=["factorial"], removed=[], changed=["memo"])
    yield story("aaaa", E.WARNING, message="slow disk", hint="use another")
    yield story("aaaa", E.MODEL_FAILED, step=2, kind="RateLimited", message="slow down")
    yield story("aaaa", E.LIMIT_REACHED, limit="max_steps", value=2)
    yield story.finished("aaaa", status="max_steps", usage={**USAGE, "seconds": 125.0})


TRANSCRIPT = """\
● boss  code agent on m, window 8,192, sandbox namespaces
│ task of boss
│ step 1  ctx ▕████░░░░▏ 4,096/8,192
│   reply of 20 tokens in 1.5 s, 400 of 1,000 prompt tokens from the cache
│   ▏ x = helper('go')
│   ▏ print(x)
│ ● helper  tools agent on m, window 8,192
│ │ task of helper
│ │   web_search(query='Iceland', n=3)
│ │   → an  (0.25 s)
│ │     island
│ │   nix()
│ │   → Error: no  (0.00 s)
│ ✔ helper completed, 2 steps, 1.5 s
│   → 42
│   → 42
│   → Traceback:
│   → ZeroDivisionError: division by zero
│   ! the sandbox refused: socket
│   ran in 2.0 s
│   ⇣ 52,428,800 bytes of text/plain set aside as artifact_1: 13,000,000 → 300 tokens in the context
│   ⇣ context compacted: 3 turns folded, 7,000 → 3,900 tokens
│   tools added factorial; changed memo
│   ! slow disk (use another)
│   ! the model failed: RateLimited: slow down
│   ! limit reached: max_steps 2
✘ boss max_steps, 2 steps, 2 min 05 s
"""


def shown(events: Iterator[Event], **options: Any) -> str:
    output = io.StringIO()
    with Console(output, **options) as console:
        for event in events:
            console(event)
    return output.getvalue()


def test_every_event_is_in_its_place() -> None:
    assert shown(nested()) == TRANSCRIPT


def test_a_terminal_shows_the_same_words_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = shown(nested(), terminal=True)
    assert "\x1b[" in coloured
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", coloured).replace("\r", "\n")
    words = [line.rstrip() for line in plain.split("\n") if line.strip() and not re.match("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", line)]
    assert words == [line.rstrip() for line in TRANSCRIPT.splitlines()]


def test_a_narrow_terminal_keeps_the_guides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    story = Story()
    text = shown(iter([story.started("a", "boss", task="word " * 30)]), terminal=True)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    rows = [line for line in re.split(r"[\r\n]+", plain) if "word" in line]
    assert len(rows) >= 4
    assert all(row.startswith("│ ") and len(row) <= 40 for row in rows)


HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]x[/red]\u202etxt\r\x00"


@pytest.mark.parametrize("terminal", [False, True])
def test_what_others_wrote_cannot_act(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    story = Story()
    events = [
        story.started("a", "boss", task=HOSTILE, model=HOSTILE, session=HOSTILE),
        story("a", E.CODE_STARTED, step=1, code=f"print({HOSTILE!r})\n# {HOSTILE}"),
        story("a", E.TOOL_CALLED, step=1, call="1", name=HOSTILE, arguments={HOSTILE: HOSTILE}),
        story("a", E.TOOL_RETURNED, step=1, call="1", name=HOSTILE, ok=True, preview=HOSTILE, seconds=0.0),
        story("a", E.WARNING, message=HOSTILE, hint=HOSTILE),
        story("a", E.MODEL_FAILED, step=1, kind="X", message=HOSTILE),
        story("a", E.TOOLS_CHANGED, added=[HOSTILE], removed=[], changed=[]),
        story.finished("a", error=HOSTILE),
    ]
    output = io.StringIO()
    with Console(output, terminal=terminal) as console:
        for event in events:
            console(event)
        if terminal:
            console.answer(HOSTILE)
        console.note(HOSTILE)
        console.summary()
    text = output.getvalue()
    for act in ("\x1b]", "\x1b[2J", "\x07", "\u202e", "\x00"):
        assert act not in text
    assert "[red]x[/red]" in text
    if not terminal:
        assert "\x1b" not in text
        assert "\r" not in text


def test_an_answer_in_a_pipe_is_left_as_it_is() -> None:
    output = io.StringIO()
    with Console(output) as console:
        console.answer("a\tb  \n" + HOSTILE)
    assert output.getvalue() == f"\na\tb  \n{HOSTILE}\n"


def test_two_runs_side_by_side_are_told_apart() -> None:
    story = Story()
    events = [
        story.started("top1", "boss"),
        story.started("aaaa1111", "helper", "top1"),
        story.started("bbbb2222", "helper", "top1"),
        story("aaaa1111", E.WARNING, message="one", hint=""),
        story("bbbb2222", E.WARNING, message="two", hint=""),
        story("bbbb2222", E.WARNING, message="three", hint=""),
    ]
    assert shown(iter(events)).splitlines()[-5:] == [
        "│ │ · helper (1111)",
        "│ │   ! one",
        "│ │ · helper (2222)",
        "│ │   ! two",
        "│ │   ! three",
    ]


def test_long_code_and_output_are_shown_in_short() -> None:
    story = Story()
    code = "\n".join(f"x{i} = {i}" for i in range(100))
    events = [
        story.started("a", "boss", task="t " * 100_000),
        story("a", E.CODE_STARTED, step=1, code=code),
        story("a", E.TOOL_CALLED, step=1, call="1", name="f", arguments={"x": "y" * 100_000}),
    ]
    text = shown(iter(events))
    assert "… 84 lines more" in text
    assert len(text) < 3000


def test_an_ascii_output_gets_ascii() -> None:
    raw = io.BytesIO()
    output = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    with Console(output) as console:
        for event in nested():
            console(event)
        console.answer("naïve")
        console.summary()
    assert b"| step 1  ctx |####....| 4,096/8,192" in raw.getvalue()


def test_a_reader_that_has_gone_is_told_once_and_nothing_raises() -> None:
    class Gone(io.StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError

    calls: list[int] = []
    console = Console(Gone(), closed=lambda: calls.append(1))
    for event in nested():
        console(event)
    console.summary()
    assert calls == [1]
    assert console.broken


def test_the_summary_names_costs_and_run() -> None:
    output = io.StringIO()
    with Console(output) as console:
        console.summary()
        assert output.getvalue() == ""
        for event in nested():
            console(event)
        console.summary()
    tail = output.getvalue()[len(TRANSCRIPT) :].splitlines()
    assert " ".join(tail[1].split()) == "agent model requests input cached output tool calls model s USD"
    assert tail[3].split() == ["boss", "m", "1", "1,000", "400", "20", "1", "1.5", "0"]
    assert tail[4].split() == ["helper", "m", "0", "0", "0", "0", "2", "0.0", "0"]
    assert tail[6].split()[0] == "total"
    assert tail[-1] == "run aaaa"


def test_an_event_costs_the_same_late_as_early() -> None:
    """By what is kept: nothing is, but for runs under way and a row per agent and model."""
    story = Story()
    console = Console(io.StringIO())
    console(story.started("top", "boss"))
    for number in range(300):
        run = f"r{number}"
        console(story.started(run, "helper", "top"))
        console(story.finished(run))
    held = [*vars(console).values(), *vars(console.costs).values()]
    assert max(len(cast("dict[str, object]", value)) for value in held if isinstance(value, dict)) <= 2


@pytest.mark.parametrize(
    ("tokens", "window", "text"),
    [
        (1204, 8192, "ctx ▕█░░░░░░░▏ 1,204/8,192"),
        (9000, 8192, "ctx ▕████████▏ 9,000/8,192"),
        (10, None, "ctx 10"),
        (0, 100, "ctx ▕░░░░░░░░▏ 0/100"),
    ],
)
def test_gauge(tokens: int, window: int | None, text: str) -> None:
    assert "".join(part for part, _ in gauge(tokens, window)) == text


def test_seconds() -> None:
    assert [seconds(value) for value in (0.004, 0.5, 3.21, 59.96, 61, 7325)] == [
        "0.00 s",
        "0.50 s",
        "3.2 s",
        "60.0 s",
        "1 min 01 s",
        "122 min 05 s",
    ]


def test_waiting_line_starts_and_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    output = io.StringIO()
    story = Story()
    console = Console(output, terminal=True)
    console(story.started("a", "boss"))
    deadline = time.monotonic() + 10
    while "boss: getting ready" not in output.getvalue():
        assert time.monotonic() < deadline
    console(story.finished("a"))
    ended = output.getvalue()
    console.close()
    assert output.getvalue() == ended
