"""What tests of policies may use."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from wherry.redaction import redact


@pytest.fixture
def collected() -> Iterator[None]:
    """For tests with patterns of their own: those hold for the whole process until their policy is collected."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def no_pattern_of_another() -> None:
    """The thread that runs ran in may hold a policy a little longer than the test that made it."""
    numbers = "0123456789abcdef 012"
    if redact(numbers) != numbers:
        gc.collect()
