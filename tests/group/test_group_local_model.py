"""The choice of who speaks by a real small model: one request of a token or two each, and by what was said."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import pytest

from wherry import FunctionModel, GroupChat, ToolCallingAgent, open_store
from wherry.errors import CatalogueError
from wherry.journal import EventType, read_events
from wherry.models.local import LocalModel, pull
from wherry.models.local.server import close_all

pytestmark = [pytest.mark.local_model, pytest.mark.anyio]

PEOPLE = {
    "mathematician": "Computes and proves.",
    "lawyer": "Knows the law and contracts.",
    "cook": "Cooks food and knows recipes.",
}
ASKED = (
    ("Ask the mathematician: what is 12 times 12?", "mathematician"),
    ("Let the cook propose a dinner.", "cook"),
    ("lawyer, is this legal?", "lawyer"),
    ("mathematician, prove it.", "mathematician"),
    ("How do I sue my landlord?", "lawyer"),
    ("How long do I boil eggs?", "cook"),
    ("What is the derivative of x^2?", "mathematician"),
)


async def test_a_small_model_chooses_by_what_was_said() -> None:
    """By letters it chose the first participant each time, whoever that was: 7 of these 21."""
    try:
        file = pull("qwen2.5-coder-0.5b")
    except CatalogueError as error:
        pytest.skip(f"the model cannot be had here: {error.message}")
    store, right, chosen = open_store("memory://"), 0, Counter[str]()
    model = LocalModel(file, context=2_048, slots=1, threads=2)
    try:
        for order in list(permutations(PEOPLE))[::2]:
            agents = [
                ToolCallingAgent((), FunctionModel(lambda request: "Yes."), name=name, description=PEOPLE[name])
                for name in order
            ]
            group = GroupChat(agents, model=model, max_rounds=1, store=store)
            for task, expected in ASKED:
                result = await group.arun(task)
                assert result.usage.requests == 2, "the choice took one request"
                (choice,) = (e.payload for e in read_events(store, result.run_id) if e.type is EventType.SPEAKER_CHOSEN)
                assert choice["how"] == "auto"
                chosen.update(choice["speakers"])
                right += choice["speakers"] == [expected]
    finally:
        await model.aclose()
        close_all()
        store.close()
    assert right >= 15, chosen
    assert min(chosen[name] for name in PEOPLE) >= 3
