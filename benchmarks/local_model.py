# ruff: noqa: E501 - a task is a line
"""How often an embedded model gets it right, through the same agents that users run.

    python benchmarks/local_model.py --model qwen2.5-coder-0.5b --tasks code

The tasks are held out: none of them, and nothing like their names, is in the worked examples of the prompts.
Decoding is greedy, so one run per task says all; it still differs between builds of llama.cpp and numbers of threads.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wherry import CodeAgent, ToolCallingAgent, tool
from wherry.agents import Agent
from wherry.messages import Message
from wherry.models import FunctionModel, ModelRequest
from wherry.models.local import LocalModel
from wherry.models.local.catalogue import catalogue, path
from wherry.store import open_store

Judge = Callable[[Any], bool]
Outcome = tuple[bool, str]


@dataclass(frozen=True)
class Task:
    """One question, and what counts as right."""

    kind: str
    text: str
    right: Judge
    tools: Sequence[Callable[..., Any]] = ()
    called: str | None = None
    """The tool or specialist that has to be called first."""
    with_: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Arguments that the first call must have."""
    schema: Mapping[str, Any] | None = None


# ---- judges


def near(value: float) -> Judge:
    def judge(got: Any) -> bool:
        try:
            return abs(float(got) - value) <= max(1e-6, abs(value) * 5e-3)
        except (TypeError, ValueError):
            return has(f"{value:g}")(got)

    return judge


def equal(value: Any) -> Judge:
    return lambda got: got == value or (not isinstance(value, str) and str(got) == str(value))


def has(*parts: str) -> Judge:
    return lambda got: all(part.lower() in _text(got).lower().replace(",", "") for part in parts)


def either(*parts: str) -> Judge:
    return lambda got: any(has(part)(got) for part in parts)


def anything(_: Any) -> bool:
    return True


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


# ---- tools of the tasks


def stock_level(product: str) -> int:
    """How many pieces of a product are in the warehouse."""
    return {"bolts": 1250, "nuts": 430, "washers": 75}[product.lower()]


def distance_km(start: str, end: str) -> float:
    """Road distance between two towns in kilometres."""
    return {("oslo", "bergen"): 463.0, ("turin", "milan"): 142.0}[start.lower(), end.lower()]


def convert_currency(amount: float, source: str, target: str) -> float:
    """Convert money between currencies given by three-letter codes."""
    return round(amount * {("EUR", "USD"): 1.1, ("GBP", "EUR"): 1.2}[source.upper(), target.upper()], 2)


def send_message(recipient: str, text: str) -> str:
    """Send a short message to a person."""
    return f"sent to {recipient}"


def create_event(title: str, date: str, hour: int) -> str:
    """Put an event into the calendar. date: as YYYY-MM-DD. hour: 0 to 23."""
    return f"created {title} on {date} at {hour}:00"


def lookup_employee(name: str) -> dict[str, Any]:
    """Find an employee's record by name."""
    return {"name": name, "department": "Logistics", "phone": "555-0142", "since": 2016}


def is_leap_year(year: int) -> bool:
    """Whether a year is a leap year."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


OFFICE = (stock_level, distance_km, convert_currency, send_message, create_event, lookup_employee)

SPECIALISTS = {
    "math_specialist": ("Solves calculations: primes, factorials, percentages, unit conversion.", "The result is 42."),
    "research_specialist": ("Looks up facts about countries, history and nature.", "It is 7,741,220 sq km."),
    "translation_specialist": ("Translates texts between languages.", "Guten Morgen"),
    "travel_specialist": ("Finds trains, flights and hotels.", "The train leaves at 9:15."),
}

# ---- the tasks

CODE = [
    Task("code", "What is the sum of the squares of the whole numbers from 1 to 20?", equal(2870)),
    Task("code", "How many primes are there below 100?", equal(25)),
    Task("code", "Reverse the words of the sentence 'green apples fall late'.", equal("late fall apples green")),
    Task("code", "What is the greatest common divisor of 462 and 1071?", equal(21)),
    Task("code", "How often does the letter e occur in 'the bees feed here'?", equal(7)),
    Task("code", "Give the first ten Fibonacci numbers, beginning with 0 and 1, as a list.", equal([0, 1, 1, 2, 3, 5, 8, 13, 21, 34])),
    Task("code", "What is the median of 14, 3, 27, 8, 19 and 5?", near(11)),
    Task("code", "Write 1994 in Roman numerals.", equal("MCMXCIV")),
    Task("code", "What weekday was 20 July 1969?", has("sunday")),
    Task("code", "A loan of 5000 grows by 4 percent a year. What is it after 6 years, rounded to two places?", near(6326.6)),
    Task("code", "Which numbers between 1 and 50 are divisible by 7? Answer with a list.", equal([7, 14, 21, 28, 35, 42, 49])),
    Task("code", "How many bolts and nuts together are in the warehouse?", equal(1680), tools=(stock_level,)),
    Task("code", "How long is the drive from Oslo to Bergen and back, in kilometres?", near(926), tools=(distance_km, stock_level)),
    Task("code", "How many leap years are there from 1990 to 2020, both included?", equal(8), tools=(is_leap_year,)),
]  # fmt: skip

TOOLS = [
    Task("tools", "How many washers do we have?", has("75"), OFFICE, "stock_level", {"product": "washers"}),
    Task("tools", "How far is it by road from Turin to Milan?", has("142"), OFFICE, "distance_km", {"start": "Turin", "end": "Milan"}),
    Task("tools", "What are 250 EUR in USD?", has("275"), OFFICE, "convert_currency", {"amount": 250, "source": "EUR", "target": "USD"}),
    Task("tools", "Tell Marta that the delivery is late.", anything, OFFICE, "send_message", {"recipient": "Marta"}),
    Task("tools", "Put 'Budget review' into my calendar for 3 March 2027 at 14 o'clock.", anything, OFFICE, "create_event", {"date": "2027-03-03", "hour": 14}),
    Task("tools", "In which department does Henrik Olsen work?", has("logistics"), OFFICE, "lookup_employee", {"name": "Henrik Olsen"}),
    Task("tools", "Was 1900 a leap year?", has("n"), (is_leap_year, stock_level), "is_leap_year", {"year": 1900}),
    Task("tools", "Convert 80 pounds sterling (GBP) to euros.", has("96"), OFFICE, "convert_currency", {"amount": 80, "source": "GBP", "target": "EUR"}),
    Task("tools", "What is Priya Nair's phone number?", has("555-0142"), OFFICE, "lookup_employee", {"name": "Priya Nair"}),
    Task("tools", "Are there more than 400 nuts in the warehouse?", either("430", "more than 400", "yes", "true"), OFFICE, "stock_level", {"product": "nuts"}),
]  # fmt: skip

ROUTE = [
    Task("route", "What is 17 percent of 2300?", anything, called="math_specialist"),
    Task("route", "Which is the longest river of Canada?", anything, called="research_specialist"),
    Task("route", "How do you say 'good morning' in German?", anything, called="translation_specialist"),
    Task("route", "When does the next train to Lyon leave?", anything, called="travel_specialist"),
    Task("route", "Is 7919 a prime number?", anything, called="math_specialist"),
    Task("route", "Who was the first president of Finland?", anything, called="research_specialist"),
    Task("route", "Find me a hotel in Lisbon for two nights.", anything, called="travel_specialist"),
    Task("route", "Put the sentence 'Where is the library?' into Spanish.", anything, called="translation_specialist"),
    Task("route", "What is the area of Australia?", has("7741220"), called="research_specialist"),
    Task("route", "Convert 98.6 degrees Fahrenheit to Celsius.", anything, called="math_specialist"),
]


def _object(**properties: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }


INVOICE = "Invoice 2207-B of 14 May 2026 from Harlow Timber Ltd: 12 oak boards, in all 1,348.50 EUR, due in 30 days."
MAIL = "Hi, this is Jonas Weber. My order 88213 has not come. Write to jonas.weber@example.org or call 0151-2233."
LOG = "2026-02-11T08:14:09Z host=web-3 level=ERROR code=502 upstream=10.0.4.17 retry=3 took=4120ms"
CV = "Elena Rossi, born 1988 in Padua, took her degree in chemistry in 2011 and has worked for Norsk Hydro since 2015."

EXTRACT = [
    Task("extract", INVOICE, lambda v: v == {"number": "2207-B", "total": 1348.5}, schema=_object(number="string", total="number")),
    Task("extract", INVOICE, lambda v: "Harlow Timber" in v["seller"] and v["due_days"] == 30, schema=_object(seller="string", due_days="integer")),
    Task("extract", MAIL, lambda v: v["name"] == "Jonas Weber" and str(v["order"]) == "88213", schema=_object(name="string", order="string")),
    Task("extract", MAIL, lambda v: v["email"] == "jonas.weber@example.org" and "0151-2233" in v["phone"], schema=_object(email="string", phone="string")),
    Task("extract", LOG, lambda v: v == {"host": "web-3", "code": 502}, schema=_object(host="string", code="integer")),
    Task("extract", LOG, lambda v: v["upstream"] == "10.0.4.17" and v["retry"] == 3, schema=_object(upstream="string", retry="integer")),
    Task("extract", CV, lambda v: v["name"] == "Elena Rossi" and v["born"] == 1988, schema=_object(name="string", born="integer")),
    Task("extract", CV, lambda v: "Norsk Hydro" in v["employer"] and v["since"] == 2015, schema=_object(employer="string", since="integer")),
]  # fmt: skip

FACTS_SCHEMA = {
    "type": "object",
    "properties": {"facts": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 8}},
    "required": ["facts"],
    "additionalProperties": False,
}
FACTS = [
    Task("facts", "The bridge at Varne was closed on 6 June for repairs. The work costs 2.4 million crowns and ends in September. Buses take route 17 instead.", has("6 june", "2.4", "september", "17")),
    Task("facts", "Team A finished the import of 18,400 rows at 03:20. Four rows failed: they had no postcode. Ines will mend them by Friday.", has("18400", "four", "postcode", "ines", "friday")),
    Task("facts", "search('Lake Tarn depth') gave 'max. depth 61 m'. compute(61 * 3.281) gave 200.1. The user wants the answer in feet.", has("61", "200.1", "feet")),
    Task("facts", "We decided to use PostgreSQL 16 for the archive. The budget is 900 euros a month. Open: who owns the backups?", has("postgresql", "900", "backup")),
    Task("facts", "File report.csv has 3 columns (id, city, sales) and 5,210 lines. The best city is Ghent with 77,410 in sales.", has("report.csv", "5210", "ghent", "77410")),
    Task("facts", "Dr. Amara Osei moved the trial to 12 November because two sensors (S4, S9) were out of range. Room 3.15 stays booked.", has("osei", "12 november", "s4", "s9", "3.15")),
]  # fmt: skip

ALL = {"code": CODE, "tools": TOOLS, "route": ROUTE, "extract": EXTRACT, "facts": FACTS}


# ---- doing them


async def _run(agent: Agent, task: Task) -> Outcome:
    first: tuple[str, Mapping[str, Any]] | None = None
    output: Any = None
    async for event in agent.astream(task.text):
        payload = event.payload
        if first is None and event.parent_run_id is None and event.type in ("tool.called", "agent.called"):
            first = payload["name"], payload.get("arguments", {})
        if event.type == "run.finished" and event.parent_run_id is None:
            output = payload.get("output")
    said = f"{first} -> {output!r}"
    if task.called is not None and (first is None or first[0] != task.called):
        return False, said
    for name, value in task.with_.items():
        if first is None or str(first[1].get(name)).lower() != str(value).lower():
            return False, said
    return task.right(output), said


async def _code(model: LocalModel, task: Task) -> Outcome:
    return await _run(CodeAgent([tool(t) for t in task.tools], model, store=open_store("memory://"), max_steps=4), task)


async def _tools(model: LocalModel, task: Task) -> Outcome:
    agent = ToolCallingAgent([tool(t) for t in task.tools], model, store=open_store("memory://"), max_steps=4)
    return await _run(agent, task)


async def _route(model: LocalModel, task: Task) -> Outcome:
    """A real manager; its specialists answer from a script, so that only the manager is judged."""
    store = open_store("memory://")
    managed = [
        CodeAgent(
            model=FunctionModel(lambda _request, answer=answer: f"```python\nfinal_answer({answer!r})\n```"),
            name=name,
            description=description,
            store=store,
        )
        for name, (description, answer) in SPECIALISTS.items()
    ]
    return await _run(CodeAgent(model=model, managed_agents=managed, store=store, max_steps=4), task)


async def _extract(model: LocalModel, task: Task) -> Outcome:
    assert task.schema is not None
    names = ", ".join(task.schema["properties"])
    reply = await model.complete(
        ModelRequest(
            [
                Message("system", f"Extract {names} from the text, word for word as they stand there. Reply in JSON."),
                Message("user", task.text),
            ],
            response_format=task.schema,
            max_output=120,
        )
    )
    return task.right(json.loads(reply.text)), reply.text


async def _facts(model: LocalModel, task: Task) -> Outcome:
    reply = await model.complete(
        ModelRequest(
            [
                Message(
                    "system", "List every fact of the text: who, what, names, numbers, dates, decisions, open points."
                ),
                Message("user", task.text),
            ],
            response_format=FACTS_SCHEMA,
            max_output=250,
        )
    )
    return task.right(json.loads(reply.text)), reply.text


WAYS: dict[str, Callable[[LocalModel, Task], Awaitable[Outcome]]] = {
    "code": _code,
    "tools": _tools,
    "route": _route,
    "extract": _extract,
    "facts": _facts,
}


async def evaluate(name: str, kinds: Sequence[str], *, verbose: bool) -> None:
    model = LocalModel(name, context=4096, slots=2)
    await model.prepare()
    for kind in kinds:
        right = 0
        started = time.monotonic()
        for task in ALL[kind]:
            try:
                good, said = await WAYS[kind](model, task)
            except Exception as error:
                good, said = False, f"{type(error).__name__}: {error}"
            right += good
            if verbose or not good:
                print(f"  {'right' if good else 'WRONG'}  {task.text[:60]!r}: {said[:240]}", flush=True)
        seconds = (time.monotonic() - started) / len(ALL[kind])
        print(f"{name:<20} {kind:<8} {right:>2} of {len(ALL[kind])}   {seconds:5.1f} s each", flush=True)
    await model.aclose()


def main() -> None:
    here = [known.name for known in catalogue() if path(known.name)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=here, help="default: all that are downloaded")
    parser.add_argument("--tasks", action="append", choices=list(ALL), help="default: all kinds")
    parser.add_argument("--verbose", action="store_true", help="print what was answered also where it was right")
    arguments = parser.parse_args()
    for name in arguments.model or here:
        asyncio.run(evaluate(name, arguments.tasks or list(ALL), verbose=arguments.verbose))


if __name__ == "__main__":
    main()
