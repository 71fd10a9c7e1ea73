"""What tests of policies may use."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def collected() -> Iterator[None]:
    """For tests with patterns of their own: those hold for the whole process until their policy is collected."""
    yield
    gc.collect()
