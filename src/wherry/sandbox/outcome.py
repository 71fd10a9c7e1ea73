"""What became of a snippet, as the `Execution` that its caller gets."""

from __future__ import annotations

import math
import signal
from dataclasses import dataclass

from .frames import Done, Final
from .limits import SandboxLimits
from .links import Exit
from .protocol import Conditions, Execution, ExecutionKind

MOST_ERROR = 4500
"""Characters of an error: those of a traceback from inside, and what is said beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the host itself knows of a snippet that ended. A final answer counts whatever came after it."""

    tier: str
    seed: str
    final: Final | None
    seconds: float
    refused: tuple[str, ...]
    tool_calls: int

    def finished(self, done: Done, *, cap: int) -> Execution:
        """It came to its end and said so.

        Args:
            done: its own account.
            cap: characters of output; what the worker keeps is bounded, what a forged frame says may not be.
        """
        final = self.final
        kind: ExecutionKind | None = None if final else _kind(done.kind)
        return Execution(
            ok=kind is None,
            value=final.value if final else done.value,
            has_value=final is not None or done.has_value,
            final=final is not None,
            kind=kind,
            error="" if final else done.error[:MOST_ERROR],
            stdout=done.stdout[:cap],
            stderr=done.stderr[:cap],
            seconds=self.seconds,
            cpu_seconds=done.cpu_seconds,
            refused=self.refused,
            tool_calls=self.tool_calls,
            tier=self.tier,
            conditions=Conditions(self.seed, done.clock),
        )

    def lost(self, kind: ExecutionKind, text: str, *, stdout: str) -> Execution:
        """The session ended with it.

        Args:
            kind: how.
            text: for the model.
            stdout: what it had printed.
        """
        final = self.final
        return Execution(
            ok=final is not None,
            value=final.value if final else None,
            has_value=final is not None,
            final=final is not None,
            kind=None if final else kind,
            error="" if final else text,
            stdout=stdout,
            seconds=self.seconds,
            refused=self.refused,
            tool_calls=self.tool_calls,
            tier=self.tier,
        )


def cause_of_death(
    ended: Exit | None, *, killed: bool, flooded: bool, limits: SandboxLimits
) -> tuple[ExecutionKind, str]:
    """Why a session is gone, for `Outcome.lost`.

    Args:
        ended: how its process ended, where that is known.
        killed: by the host, because the snippet did not stop.
        flooded: there were too many refused system calls.
        limits: those of the session.
    """
    if killed:
        return (
            "timeout",
            f"the snippet ran into its limit of {limits.wall_seconds:g} s, did not stop when asked to, and was killed",
        )
    if flooded:
        return "refused", "the snippet went on trying system calls that are not allowed"
    if ended is not None and ended.cpu_seconds >= math.floor(limits.cpu_seconds * 0.98):
        return "timeout", f"the session used up its {limits.cpu_seconds} s of processor time"
    return "killed", f"the snippet's process ended: {_reason(ended)}"


def _kind(kind: str | None) -> ExecutionKind | None:
    match kind:
        case "exception" | "timeout" | "memory":
            return kind
        case _:
            return None


def _reason(ended: Exit | None) -> str:
    if ended is None:
        return "nobody knows how"
    if ended.code < 0:
        try:
            return f"killed by {signal.Signals(-ended.code).name}"
        except ValueError:
            return f"killed by signal {-ended.code}"
    return f"it exited with code {ended.code}"
