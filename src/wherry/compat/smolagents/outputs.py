"""What a run gives back, and what a stream gives between steps."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal  # Any: answers are of any kind

from wherry.compat.smolagents.memory import ToolCall
from wherry.compat.smolagents.monitoring import Timing, TokenUsage


@dataclass
class ActionOutput:
    """What a step came to."""

    output: Any
    is_final_answer: bool


@dataclass
class ToolOutput:
    """What a call gave."""

    id: str
    output: Any
    is_final_answer: bool
    observation: str
    tool_call: ToolCall


@dataclass(init=False)
class RunResult:
    """A run, in full."""

    output: Any
    state: Literal["success", "max_steps_error"] | None
    steps: list[dict[str, Any]] | None
    token_usage: TokenUsage | None
    timing: Timing | None

    def __init__(
        self,
        output: Any = None,
        state: Literal["success", "max_steps_error"] | None = None,
        steps: list[dict[str, Any]] | None = None,
        token_usage: TokenUsage | None = None,
        timing: Timing | None = None,
        messages: list[dict[str, Any]] | None = None,
    ) -> None:
        if messages is not None:
            if steps is not None:
                raise ValueError("Cannot specify both 'messages' and 'steps' parameters. Use 'steps' instead.")
            warnings.warn("'messages' is deprecated: use 'steps'", FutureWarning, stacklevel=2)
            steps = messages
        self.output, self.state, self.steps = output, state, steps
        self.token_usage, self.timing = token_usage, timing

    @property
    def messages(self) -> list[dict[str, Any]] | None:
        warnings.warn("'messages' is deprecated: use 'steps'", FutureWarning, stacklevel=2)
        return self.steps

    def dict(self) -> Mapping[str, Any]:
        return {
            "output": self.output,
            "state": self.state,
            "steps": self.steps,
            "token_usage": None if self.token_usage is None else self.token_usage.dict(),
            "timing": None if self.timing is None else self.timing.dict(),
        }
