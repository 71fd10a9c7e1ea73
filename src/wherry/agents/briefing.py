"""What an agent's instructions come to in one run: a text as it is, a `Knowledge` as what matters for the task."""

from __future__ import annotations

from functools import partial

from wherry.context import DEFAULT_WINDOW, ContextBudget, Knowledge, TokenCounter
from wherry.models import ModelProfile
from wherry.store import Store
from wherry.tools.threads import run_in_thread

Instructions = str | Knowledge | None


class Briefing:
    """The instructions of one run. What was made of a `Knowledge` stays as it is until the run ends.

    Args:
        task: What the run is asked to do.
        store: Has the index of the knowledge.
        profile: The model's.
        budget: The agent's.
    """

    def __init__(self, task: str, *, store: Store, profile: ModelProfile, budget: ContextBudget) -> None:
        self._task = task
        self._store = store
        self._profile = profile
        self.window = budget.window or profile.window or DEFAULT_WINDOW
        self._room = self.window - (budget.reserve_output or min(profile.max_output, max(self.window // 4, 1)))
        self._made: dict[int, tuple[Knowledge, str]] = {}
        self.warnings: list[str] = []
        """What is to be recorded of documents that were left out."""

    async def prepare(self, instructions: Instructions) -> None:
        """Read and index a `Knowledge` in a thread: hundreds of milliseconds the first time, a few later.

        Raises:
            ConfigurationError: It has no documents, or they are gone.
            StoreError: The index cannot be written.
        """
        if isinstance(instructions, Knowledge):
            await run_in_thread(partial(self.text, instructions), timeout=None)

    def text(self, instructions: Instructions) -> str:
        """What the system prompt says."""
        if not isinstance(instructions, Knowledge):
            return instructions or ""
        known = self._made.get(id(instructions))
        if known is not None:
            return known[1]
        text = instructions.brief(
            self._task,
            store=self._store,
            counter=TokenCounter.for_profile(self._profile),
            room=max(self._room, 0),
            control_tokens=self._profile.control_tokens,
        )
        self._made[id(instructions)] = (instructions, text)
        left_out = [f"{name} {why}" for name, why in instructions.skipped.items()]
        if left_out:
            more = f" and {len(left_out) - 10} more" if len(left_out) > 10 else ""
            self.warnings.append(f"documents of the knowledge are left out: {'; '.join(left_out[:10])}{more}")
        if instructions.problem:
            self.warnings.append(f"the knowledge is searched by words alone: {instructions.problem}")
        return text
