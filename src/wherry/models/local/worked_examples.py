"""What small models are shown of each role, as turns of a conversation.

Without examples the 1.5B wrote 2 of 20 snippets right, with four 20 (Qwen2.5-Coder, November 2026). A profile carries
them as text, which agents put into the system prompt. There they are found again and become turns before the request's
own, which chat models follow better than a text that speaks of turns. What followed them in the system prompt, the
agent's own functions and instructions, moves behind them, to the task: as in the examples, and so that the prompt
cache of one agent's beginning serves all agents.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from wherry.messages import Message

Turn = tuple[Literal["user", "assistant"], str]

# The marks take at least the tokens of the chat template's own, so that a text which was counted is never too short.
_MARKS: Mapping[str, str] = {
    "user": "\n\n## Example: what the user says\n\n",
    "assistant": "\n\n## Example: your reply\n\n",
}
_END = "\n\n## End of the examples"  # no line break behind it: whoever joins prompts may strip that
_MARKED = re.compile("|".join(re.escape(mark) for mark in (*_MARKS.values(), _END)))
_ROLES: Mapping[str, Literal["user", "assistant"]] = {_MARKS["user"]: "user", _MARKS["assistant"]: "assistant"}


def as_text(turns: Sequence[Turn]) -> str:
    """The examples as a profile carries them."""
    return "".join(f"{_MARKS[role]}{text}" for role, text in turns).lstrip() + _END


def as_turns(system: str) -> tuple[str, list[Message], str]:
    """A system prompt up to its examples, the examples as messages, and what followed them."""
    marks = list(_MARKED.finditer(f"\n\n{system}"))
    first = next((n for n, mark in enumerate(marks) if mark.group() in _ROLES), None)
    last = next((n for n, mark in enumerate(marks) if mark.group() == _END), None)
    if first is None or last is None or first > last:
        return system, [], ""
    text = f"\n\n{system}"
    turns = [
        Message(_ROLES[mark.group()], text[mark.end() : after.start()])
        for mark, after in zip(marks[first:last], marks[first + 1 : last + 1], strict=True)
    ]
    return text[: marks[first].start()].strip(), turns, text[marks[last].end() :].strip()


def _code(text: str) -> Turn:
    return "assistant", f"```python\n{text}\n```"


def _given(stub: str, task: str) -> str:
    return f"These functions are already there; call them, never define or import them:\n{stub}\n\n{task}"


# Always a value in a variable first: after `final_answer(` at once, a small model writes a guess.
CODE: Sequence[Turn] = (
    ("user", "What is the average length of the words in 'a quick red fox'?"),
    _code(
        "words = 'a quick red fox'.split()\naverage = sum(len(word) for word in words) / len(words)\n"
        "final_answer(average)"
    ),
    ("user", "Which number from 1 to 60 has the most divisors?"),
    _code(
        "def divisors(n):\n    return [d for d in range(1, n + 1) if n % d == 0]\n\n"
        "best = max(range(1, 61), key=lambda n: len(divisors(n)))\nfinal_answer(best)"
    ),
    ("user", "Is 2209 a perfect square?"),
    _code("import math\n\nroot = math.isqrt(2209)\nfinal_answer(root * root == 2209)"),
    (
        "user",
        _given(
            'def get_price(item: str) -> float: """The price of an item in euros."""',
            "What do 3 lamps and a chair cost?",
        ),
    ),
    _code('lamp = get_price("lamp")\nchair = get_price("chair")\nfinal_answer(3 * lamp + chair)'),
    ("user", _given('def find_item(name: str) -> dict: """Look an item up."""', "Who sells the lamp?")),
    _code('print(find_item("lamp"))'),
    ("user", "Output:\n{'seller': 'Holm', 'stock': 4}"),
    _code('final_answer("Holm")'),
)

_STAFF = (
    'def garden_specialist(task: str): """Knows plants and seasons."""\n'
    'def number_specialist(task: str): """Solves calculations."""\n'
    'def library_specialist(task: str): """Finds facts in books, and keeps notes."""'
)

# Who is asked, and why, is said in a comment first: without it the 1.5B asks whoever stands first in the list.
# What one specialist says goes into the next one's task: printed only, the 1.5B asks the second without it.
MANAGER: Sequence[Turn] = (
    ("user", _given(_STAFF, "Who built the tower?")),
    _code('# A fact: library_specialist\nfinal_answer(library_specialist("Who built the tower?"))'),
    ("user", _given(_STAFF, "How many floors of 3 m fit into the tower? Save the answer in the memo under 'tower'.")),
    _code(
        '# A fact: library_specialist\nheight = library_specialist("What is the height of the tower?")\n'
        "# A calculation: number_specialist\n"
        'floors = number_specialist(f"How many floors of 3 m fit into this height? {height}")\n'
        "# A note: library_specialist\n"
        "saved = library_specialist(f\"Save in the memo under 'tower': {height} Floors: {floors}\")\n"
        'final_answer(f"{height} Floors of 3 m: {floors}")'
    ),
    ("user", _given(_STAFF, "When are tulips planted?")),
    _code('# Plants: garden_specialist\nfinal_answer(garden_specialist("When are tulips planted?"))'),
)


def _call(name: str, arguments: str) -> Turn:
    return "assistant", f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def _result(text: str) -> Turn:
    return "user", f"<tool_response>\n{text}\n</tool_response>"


# Three unlike ones: of a single one the 0.5B copied the answer, whatever the tool had said.
TOOLS: Sequence[Turn] = (
    ("user", "What does the lamp cost?"),
    _call("get_price", '{"item": "lamp"}'),
    _result("40 euros"),
    _call("final_answer", '{"answer": "The lamp costs 40 euros."}'),
    ("user", "Open the window in room 7."),
    _call("set_window", '{"room": 7, "state": "open"}'),
    _result("ok"),
    _call("final_answer", '{"answer": "The window in room 7 is open."}'),
    ("user", "Who wrote 'The Long Tide'?"),
    _call("find_book", '{"title": "The Long Tide"}'),
    _result('{"author": "Ida Brandt", "pages": 310}'),
    _call("final_answer", '{"answer": "Ida Brandt"}'),
)

WORKED_EXAMPLES: Mapping[str, str] = {"code": as_text(CODE), "manager": as_text(MANAGER), "tools": as_text(TOOLS)}
