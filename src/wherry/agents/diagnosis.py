"""What the user is told of a failure that nothing helped against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wherry.errors import ModelError, WherryError
from wherry.models import Failure, FailureKind


def kind_of(error: WherryError) -> str:
    """The kind of failure; of what is none of a model's, the error's name."""
    return str(error.kind) if isinstance(error, ModelError) else type(error).__name__


def explained(
    error: WherryError,
    *,
    step: int,
    attempts: int,
    tried: Sequence[str],
    window: int | None,
    sizes: Mapping[str, int] | None,
) -> WherryError:
    """The error with everything that is known of how it came to it: in its `diagnosis`, and in words.

    Args:
        error: Of the last attempt.
        step: The run's.
        attempts: How many requests were made for the one question.
        tried: What was done about each failure.
        window: The largest request in tokens at the end.
        sizes: What each part of the last request took; None when there was none.
    """
    kind = kind_of(error)
    error.diagnosis = {
        **(error.diagnosis or {}),
        "kind": kind,
        "step": step,
        "attempts": attempts,
        "tried": list(tried),
        "window": window,
        "sizes": None if sizes is None else dict(sizes),
        "change": error.hint,
    }
    message = str(error.args[0])  # as it was raised: the same exception may come out of several runs
    if sizes is not None and kind in (FailureKind.ContextOverflow, FailureKind.OutOfMemory):
        rows = "\n".join(f"  {name:<18}{tokens:>12,}" for name, tokens in sizes.items() if tokens)
        message += f"\n{rows}"
    if tried:
        message += f"\n  tried: {'; '.join(tried)}"
    error.message = message
    return error


class OfAProgram(ModelError):
    """What a user's own model raised that is no `ModelError`."""


def of_a_model(error: Exception) -> ModelError:
    failure = Failure.of(error)
    return OfAProgram(
        f"the model raised {type(error).__name__}: {error}", kind=failure.kind, diagnosis=failure.to_json()
    )
