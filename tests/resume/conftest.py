"""The process whose children play; one for all tests of a test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.resume.stage import Zygote
from tests.store.conftest import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    process = Zygote()
    yield process
    process.close()
