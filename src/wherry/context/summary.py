"""The one summary block of a window: what stands for all that was folded away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from wherry.context.counting import TokenCounter
from wherry.context.escape import escape
from wherry.context.extract import Line, extract, fitting, terms_of
from wherry.context.facts import FactWriter, NoSummaryError
from wherry.context.groups import Group
from wherry.messages import JSON, Message

_OPENING = "<wherry:summary>\nEarlier turns of this conversation, shortened, oldest first:"
_CLOSING = "</wherry:summary>"
_MOST_FAILURES = 2
"""In a row; then the run's further summaries are extracts: a model that cannot do it costs time at every compaction."""


class Summary:
    """Takes folded groups in, and gives one message of a bounded size for all of them so far."""

    def __init__(
        self,
        counter: TokenCounter,
        *,
        task: str,
        control_tokens: tuple[str, ...],
        writer: FactWriter | None,
    ) -> None:
        self._counter = counter
        self._control_tokens = control_tokens
        self._terms = terms_of(task)
        self._writer = writer
        self._failures = 0
        self._lines: list[Line] = []
        self._left_out = 0

    async def fold(self, groups: Sequence[Group], cap: int) -> str:
        """Take groups in; `cap` is what the message may take.

        Returns:
            How: `"summary"` by the model, `"extract"`, or `"extract: "` and why the model's summary could not be had.
        """
        found, how = await self._found(groups)
        for text, named in found:
            # Heads and cuts are of escaped texts, but a cut can open one of wherry's own tags.
            safe = "- " + escape(text, self._control_tokens)
            self._lines.append(Line(safe, self._counter.text(safe) + 1, named))
        self._cut(cap)
        return how

    async def _found(self, groups: Sequence[Group]) -> tuple[list[tuple[str, bool]], str]:
        if self._writer is None or self._failures >= _MOST_FAILURES:
            return extract(groups, self._terms), "extract"
        try:
            lines = await self._writer.facts(groups)
        except NoSummaryError as error:
            self._failures += 1
            return extract(groups, self._terms), f"extract: {error}"
        self._failures = 0
        return [(line, any(term in line for term in self._terms)) for line in lines], "summary"

    def message(self, cap: int) -> Message | None:
        """The summary in at most `cap` tokens; None when there is nothing to say, or no room to say it."""
        if not self._lines and not self._left_out:
            return None
        for _ in range(6):
            self._cut(cap)
            note = [f"[{self._left_out} older lines left out]"] if self._left_out else []
            text = "\n".join([_OPENING, *note, *(line.text for line in self._lines), _CLOSING])
            message = Message("user", text)
            tokens = self._counter.message(message)
            if tokens <= cap:
                return message
            if not self._lines:
                return None
            cap -= max(tokens - cap, 8)
        return None

    def _cut(self, cap: int) -> None:
        frame = self._counter.message(Message("user", f"{_OPENING}\n[10000 older lines left out]\n{_CLOSING}"))
        kept = fitting(self._lines, cap - frame)
        self._left_out += len(self._lines) - len(kept)
        self._lines = kept

    def state(self) -> JSON:
        return {"left_out": self._left_out, "lines": [[line.text, line.named] for line in self._lines]}

    def restore(self, state: Any) -> None:  # Any: JSON that `state` made
        """Go on from what `state` gave."""
        saved = cast("dict[str, Any]", state)
        self._left_out = saved["left_out"]
        self._lines = [Line(text, self._counter.text(text) + 1, named) for text, named in saved["lines"]]
