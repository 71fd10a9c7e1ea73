"""An export that somebody changed who knows how it is made: the script of the documentation names the line."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from wherry.journal import EventType, Journal, RunJournal
from wherry.journal.export import export
from wherry.journal.retention import prune
from wherry.messages import Message
from wherry.store import Store, open_store

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"
(SCRIPT,) = re.findall(r"(?ms)^```py\n(.*?)^```", PAGE.read_text("utf-8"))
CODE = compile(SCRIPT, "docs/audit.md", "exec")
Check = Callable[[list[bytes]], int | None]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Runs the script; the line that it names, None if it finds nothing."""
    file = tmp_path / "export.jsonl"
    monkeypatch.setattr(sys, "argv", ["check", str(file)])

    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # the script sets one

    def run(lines: list[bytes]) -> int | None:
        file.write_bytes(b"".join(lines))
        space: dict[str, Any] = {"__name__": "script"}
        try:
            exec(CODE, space)
        except Exception:
            return space["number"]
        return None

    return run


@pytest.fixture(scope="module")
def lines() -> Iterator[list[bytes]]:
    store = open_store("memory://")
    asyncio.run(fill(store))
    yield list(export(store))
    store.close()


async def fill(store: Store) -> None:
    """Three runs, of which one was started by another and one was pruned."""
    parent: RunJournal | None = None
    for n in range(3):
        journal = Journal.start(store, agent="agent ö", parent=parent if n == 1 else None)
        journal.record(EventType.RUN_STARTED, task=f"task {n}", session="gone" if n == 2 else None)
        names = [journal.keep(Message("user", f"{n} {k} \ud800")) for k in range(2)]
        journal.record(EventType.MODEL_REQUESTED, keep=0, add=names)
        journal.record(EventType.MODEL_REPLIED, message=journal.keep(Message("assistant", f"reply {n}")))
        journal.record(EventType.WARNING, message="ö")
        await journal.commit()
        parent = journal if n == 0 else parent
        if n:
            journal.record(EventType.RUN_FINISHED, status="completed")
            await journal.commit()
    assert parent is not None
    parent.record(EventType.RUN_FINISHED, status="completed")
    await parent.commit()
    assert prune(store, session="gone").runs


def sealed(lines: list[bytes]) -> list[bytes]:
    """With an end that fits, as somebody would write it who changed what is before."""
    body = json.dumps({"lines": len(lines) - 1, "sha256": sha256(b"".join(lines[:-1])).hexdigest()})
    first = sha256(value(lines[0])["body"].encode()).digest()
    end = {"chain": None, "body": body, "hash": sha256(first + body.encode()).hexdigest()}
    return [*lines[:-1], json.dumps(end).encode() + b"\n"]


def kind(line: bytes) -> str:
    said = value(line)
    if "chain" not in said:
        return "message"
    if not said["chain"]:
        return "frame" if said["chain"] is None else "anchor"
    return "record" if "payload" in said else "run"


def value(line: bytes) -> dict[str, Any]:
    return json.loads(line)


def body(line: bytes) -> dict[str, Any]:
    return json.loads(value(line)["body"])


def run_of(line: bytes) -> str | None:
    """The run that a line proves something of."""
    return body(line)["run_id"] if kind(line) in ("anchor", "run", "record") else None


def next_of_run(lines: list[bytes], place: int, run_id: str, seq: int) -> int:
    """The number of the first line from a place on that needs a record of a run that is gone."""
    for number, line in enumerate(lines[place:], place + 1):
        if run_of(line) == run_id and kind(line) == "record":
            return number
        if run_of(line) == run_id and kind(line) == "anchor" and body(line)["records"] >= seq:
            return number
    raise AssertionError("every run has an end")


def flip(lines: list[bytes], dice: random.Random) -> tuple[list[bytes], int]:
    place = dice.choice([n for n, line in enumerate(lines) if kind(line) in ("message", "record", "anchor")])
    before = json.loads(lines[place])
    while True:
        data = bytearray(lines[place][:-1])
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(7)
        try:
            if json.loads(data) == before:
                continue  # `\\uD800` says what `\\ud800` says
        except ValueError:
            pass
        if b"\n" not in data and b"\r" not in data:
            return sealed([*lines[:place], bytes(data) + b"\n", *lines[place + 1 :]]), place + 1


def drop(lines: list[bytes], dice: random.Random) -> tuple[list[bytes], int]:
    anchors = [n for n, line in enumerate(lines) if kind(line) == "anchor"]
    place = dice.choice([n for n, line in enumerate(lines) if kind(line) == "record"] + anchors[:-1])
    left = [*lines[:place], *lines[place + 1 :]]
    if place in anchors:
        return sealed(left), place + 1
    return sealed(left), next_of_run(left, place, str(run_of(lines[place])), body(lines[place])["seq"])


def drop_message(lines: list[bytes], dice: random.Random) -> tuple[list[bytes], int]:
    place = dice.choice([n for n, line in enumerate(lines) if kind(line) == "message"])
    name = value(lines[place])["hash"]
    left = [*lines[:place], *lines[place + 1 :]]
    return sealed(left), next(n for n, line in enumerate(left, 1) if kind(line) == "record" and name.encode() in line)


def swap(lines: list[bytes], dice: random.Random) -> tuple[list[bytes], int]:
    one = dice.choice([n for n, line in enumerate(lines) if kind(line) == "record"])
    same = [
        n for n, line in enumerate(lines) if n != one and kind(line) == "record" and run_of(line) == run_of(lines[one])
    ]
    two = dice.choice(same)
    swapped = list(lines)
    swapped[one], swapped[two] = swapped[two], swapped[one]
    return sealed(swapped), min(one, two) + 1


def truncate(lines: list[bytes], dice: random.Random) -> tuple[list[bytes], int]:
    """The last records of a run are gone, the anchors are there."""
    place = dice.choice([n for n, line in enumerate(lines) if kind(line) == "record"])
    run_id = str(run_of(lines[place]))
    left = [
        line
        for n, line in enumerate(lines)
        if n < place or kind(line) not in ("record", "message") or run_of(line) != run_id
    ]
    return sealed(left), next_of_run(left, place, run_id, body(lines[place])["seq"])


def cut_off(lines: list[bytes], dice: random.Random) -> tuple[list[bytes], int]:
    place = dice.randrange(1, len(lines))
    return lines[:place], place


def insert(lines: list[bytes], dice: random.Random) -> tuple[list[bytes], int]:
    """A copy of a record, somewhere."""
    source = dice.choice([n for n, line in enumerate(lines) if kind(line) == "record"])
    first = next(n for n, line in enumerate(lines) if kind(line) == "run" and run_of(line) == run_of(lines[source]))
    place = dice.randrange(first + 1, len(lines))
    added = [*lines[:place], lines[source], *lines[place:]]
    fits = [n for n in range(place) if kind(lines[n]) == "record" and run_of(lines[n]) == run_of(lines[source])]
    # In its own place, just before itself, it is what was written; then it is the original that is not.
    return sealed(added), source + 2 if place <= source and fits[-1:] == _before(lines, source) else place + 1


def _before(lines: list[bytes], source: int) -> list[int]:
    mine = [n for n in range(source) if kind(lines[n]) == "record" and run_of(lines[n]) == run_of(lines[source])]
    return mine[-1:]


def blank(lines: list[bytes], dice: random.Random) -> tuple[list[bytes], int]:
    """A payload that is removed as pruning would."""
    place = dice.choice([n for n, line in enumerate(lines) if kind(line) == "record" and value(line)["payload"]])
    said = value(lines[place])
    blanked = json.dumps(said | {"payload": None}).encode() + b"\n"
    return sealed([*lines[:place], blanked, *lines[place + 1 :]]), len(lines)  # whether it was pruned is known then


@pytest.mark.parametrize("act", [flip, drop, drop_message, swap, truncate, cut_off, insert, blank])
def test_a_thousand_tamperings_are_found_at_the_right_line(
    act: Callable[[list[bytes], random.Random], tuple[list[bytes], int]], lines: list[bytes], check: Check
) -> None:
    assert check(lines) is None
    assert check(sealed(lines)) is None
    dice = random.Random(act.__name__)
    for n in range(130):
        tampered, number = act(lines, dice)
        assert check(tampered) == number, n


def test_the_script_has_twenty_lines() -> None:
    assert len([line for line in SCRIPT.splitlines() if line.strip()]) == 20


def test_a_run_that_goes_on_while_it_is_exported_is_no_break(check: Check) -> None:
    store = open_store("memory://")
    journal = Journal.start(store, agent="a")
    journal.record(EventType.RUN_STARTED, task="task")
    asyncio.run(journal.commit())
    given: list[bytes] = []
    for line in export(store):
        given.append(line)
        if kind(line) == "record":
            journal.record(EventType.RUN_FINISHED, status="completed")
            asyncio.run(journal.commit())
    store.close()
    assert [kind(line) for line in given] == ["frame", "run", "record", "anchor", "frame"]
    assert check(given) is None


def test_a_message_may_be_gone_with_the_payload_that_named_it(lines: list[bytes], check: Check) -> None:
    assert any(kind(line) == "record" and value(line)["payload"] is None for line in lines)
    assert check(lines) is None
