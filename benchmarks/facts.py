"""How many facts survive three compactions: with a model's summaries, with extracts alone, in a sliding window.

    python benchmarks/facts.py [--model qwen2.5-coder-1.5b] [--conversations 20] [--extract] [--verbose]

Each conversation has five facts, each said once, early, in the middle of other talk: by a tool, by the user, by the
agent itself. It goes on until the window was compacted three times and none of what was said then is left in it. A fact
has survived when its value stands in the window, letter for letter. The walk is scripted, the summaries are the
model's own, greedy. Four conversations go on at a time. With the 1.5B it takes about half an hour on two cores:
`--conversations 4` gives an idea.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import anyio

from wherry.context import ContextBudget, ContextWindow, facts
from wherry.journal import EventType
from wherry.messages import Message, ToolCall, ToolSchema, digest
from wherry.models import Model, ModelProfile
from wherry.models.local import LocalModel
from wherry.models.local.catalogue import path
from wherry.store import open_store

WINDOW = 2_048
RESERVE = 256
COMPACTIONS = 3
TOOLS = [
    ToolSchema("read_mail", "Reads the next mail.", {"type": "object", "properties": {"box": {"type": "string"}}}),
    ToolSchema("ask", "Asks a colleague.", {"type": "object", "properties": {"question": {"type": "string"}}}),
]
SYSTEM = Message("system", "You are the assistant of a small shipping office. You read mails, ask colleagues and note.")

PEOPLE = ["Ingrid Solheim", "Tomasz Wolny", "Maren Kofoed", "Pascal Brandt", "Yusuf Demir", "Alma Reyes", "Otto Lund"]
SHIPS = ["Kittiwake", "Sea Lark", "Aurora", "Brigid", "Halcyon", "Morning Tide", "Petrel", "Nordlys"]
PLACES = ["Bergen", "Gdynia", "Rostock", "Aarhus", "Leith", "Antwerp", "Porto", "Hull"]
TALK = [
    "The weather was calm and the pier was busy, as on most mornings.",
    "People talked for a while about the new coffee machine and who should clean it.",
    "The forklift is back from repair and runs well, says the warehouse.",
    "Somebody left an umbrella in the office and nobody has come for it.",
    "The printer on the first floor prints again after somebody looked into it.",
    "There was a long queue at the gate, which went away by noon.",
    "The canteen will have soup and bread; the menu hangs at the door.",
    "A group of students visited the quay and asked many questions.",
    "The lights in the yard were changed, they are brighter now.",
    "Nothing else came up that would matter to the office.",
    "The meeting took {n} minutes and ended before lunch.",
    "There were {n} cars in the yard at 7:{n}, which is as usual.",
    "The complaint about the lamp has the number L-{n}{n} and is settled.",
    "The post brought {n} letters, all of them advertisements.",
]


@dataclass(frozen=True)
class Fact:
    said: str
    value: str
    where: str
    """`tool`, `user` or `assistant`: who says it."""


@dataclass
class Conversation:
    task: str
    facts: list[Fact]
    chance: random.Random
    kept: dict[str, int] = field(default_factory=dict[str, int])
    how: list[str] = field(default_factory=list[str])
    summary: str = ""
    lost: list[Fact] = field(default_factory=list[Fact])


def conversation(number: int) -> Conversation:
    """The same one for the same number."""
    chance = random.Random(number)
    person, other = chance.sample(PEOPLE, 2)
    ship, place = chance.choice(SHIPS), chance.choice(PLACES)
    code = f"{''.join(chance.choices('BCDFGHKLMNPRTVX', k=2))}-{chance.randint(1000, 9999)}"
    amount = f"{chance.randint(1, 9)},{chance.randint(100, 999)}.{chance.randint(10, 99)}"
    day = f"{chance.randint(2, 27)} {chance.choice(['March', 'April', 'May', 'September', 'October'])}"
    phone = f"+47 {chance.randint(20, 99)} {chance.randint(10, 99)} {chance.randint(10, 99)} {chance.randint(10, 99)}"
    file = f"{chance.choice(['manifest', 'loading', 'customs'])}_v{chance.randint(2, 9)}.csv"
    file = f"/srv/cargo/{ship.split()[0].lower()}/{file}"
    weight = f"{chance.randint(11, 89)}.{chance.randint(1, 9)} tonnes"
    food, cover = chance.choice(["celery", "walnuts", "shellfish"]), chance.choice(["grey", "orange", "striped"])
    berth = f"berth {chance.choice('ABCDEFG')}{chance.randint(1, 19)}"
    pool = [
        Fact(f"The booking of the {ship} has the reference {code}.", code, "tool"),
        Fact(f"{person} says the agreed price is {amount} euros, tax included.", amount, "tool"),
        Fact(f"The {ship} sails from {place} on {day}.", day, "tool"),
        Fact(f"By the way, I decided: {other} signs for the cargo, nobody else.", other, "user"),
        Fact(f"I saved the list as {file} for later.", file, "assistant"),
        Fact(f"The number of the harbour master in {place} is {phone}.", phone, "tool"),
        Fact(f"The crane is good for {weight}, not more.", weight, "tool"),
        Fact(f"The {ship} will lie at {berth}.", berth, "user"),
        # Nothing to know these two by but what they mean: only a model can.
        Fact(f"The cook of the {ship} cannot eat {food}.", food, "tool"),
        Fact(f"The buyer wants the {cover} tarpaulins on top.", cover, "user"),
    ]
    facts = chance.sample(pool, 5)
    return Conversation(f"Prepare everything for the loading of the {ship} in {place}.", facts, chance)


def talk(chance: random.Random, count: int, fact: Fact | None = None) -> str:
    sentences = [sentence.format(n=chance.randint(11, 59)) for sentence in chance.sample(TALK, count)]
    if fact is not None:
        sentences.insert(chance.randint(1, count - 1), fact.said)
    return " ".join(sentences)


def turns(told: Conversation) -> Any:
    """(assistant's message, tool's message, user's message or None), without end; the facts come first."""
    chance, facts = told.chance, deque(told.facts)
    number = 0
    while True:
        number += 1
        fact = facts.popleft() if facts and number % 2 == 0 else None
        said = {fact.where: fact} if fact is not None else {}
        call = ToolCall(
            f"c{number}", *chance.choice([("read_mail", {"box": "office"}), ("ask", {"question": "News?"})])
        )
        words = f"I look at what came in. {said['assistant'].said if 'assistant' in said else ''}".strip()
        yield (
            Message("assistant", words, tool_calls=[call]),
            Message("tool", talk(chance, 6, said.get("tool")), tool_call_id=call.id, name=call.name),
            Message("user", talk(chance, 2, said["user"])) if "user" in said else None,
        )


_SUMMARY = re.compile(r"<wherry:summary>.*?</wherry:summary>", re.DOTALL)


def held(text: str, facts: list[Fact]) -> list[Fact]:
    return [fact for fact in facts if re.search(rf"(?<!\w){re.escape(fact.value)}(?!\w)", text)]


async def walk(told: Conversation, profile: ModelProfile, summarizer: Model | None) -> None:
    """Play a conversation until its facts were folded and three compactions have passed."""

    def record(type: EventType, /, **payload: Any) -> None:
        if type == EventType.CONTEXT_COMPACTED:
            told.how.append(payload["how"])

    budget = ContextBudget(WINDOW, reserve_output=RESERVE, summarizer=summarizer)
    window = ContextWindow(
        profile=profile,
        budget=budget,
        artifacts=open_store("memory://").artifacts,
        run_id="facts",
        record=record,
        keep=lambda message: digest(message.encode()),
        system=SYSTEM,
        task=Message("user", told.task),
        tools=TOOLS,
    )
    sliding: deque[tuple[Message, int]] = deque()
    most = int((WINDOW - RESERVE) * budget.high_water) - window.counter.message(SYSTEM) - window.counter.tools(TOOLS)
    for assistant, tool, user in turns(told):
        for message in (assistant, tool, user):
            if message is not None:
                await window.append(message)
                sliding.append((message, window.counter.message(message)))
        fitted = await window.request(system=SYSTEM, tools=TOOLS)
        text = "\n".join(message.content for message in fitted.messages)
        if len(told.how) >= COMPACTIONS and not held(_SUMMARY.sub("", text), told.facts):
            break
    while sum(tokens for _, tokens in sliding) > most:
        sliding.popleft()
    survived = held(text, told.facts)
    left = "\n".join(message.content for message, _ in sliding)
    told.kept = {"window": len(survived), "sliding": len(held(left, told.facts))}
    told.lost = [fact for fact in told.facts if fact not in survived]
    told.summary = "".join(_SUMMARY.findall(text))


async def main(options: argparse.Namespace) -> None:
    file = path(options.model)
    if file is None:
        raise SystemExit(f"the model is not here: wherry models pull {options.model}")
    model = LocalModel(options.model, context=WINDOW, slots=options.slots, threads=options.threads)
    facts._SECONDS = options.patience
    all_told = [conversation(number) for number in range(options.conversations)]
    started = time.monotonic()
    limit = anyio.Semaphore(options.slots)

    async def one(told: Conversation) -> None:
        async with limit:
            await walk(told, model.profile, None if options.extract else model)
        kept, of = told.kept["window"], len(told.facts)
        print(f"{kept} of {of} (sliding window {told.kept['sliding']}), {', '.join(told.how)}", flush=True)
        if options.verbose:
            print(told.summary)
            print("lost:", *(f"\n  {fact.where}: {fact.said}" for fact in told.lost), flush=True)

    async with model, anyio.create_task_group() as group:
        for told in all_told:
            group.start_soon(one, told)
    total = sum(len(told.facts) for told in all_told)
    survived = sum(told.kept["window"] for told in all_told)
    sliding = sum(told.kept["sliding"] for told in all_told)
    print(
        f"{'extracts alone' if options.extract else options.model}: {survived} of {total} facts survive "
        f"({survived / total:.0%}), in a sliding window {sliding} ({sliding / total:.0%}); "
        f"{sum(len(told.how) for told in all_told)} compactions, {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--conversations", type=int, default=20)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--patience", type=float, default=180.0, help="seconds for a summary, on a machine that is busy"
    )
    parser.add_argument("--extract", action="store_true", help="no model: what the deterministic extract keeps")
    parser.add_argument("--verbose", action="store_true", help="print each summary and what it lost")
    anyio.run(main, parser.parse_args())
