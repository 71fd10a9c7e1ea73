"""What the models' tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playback_server import PlaybackServer


@pytest.fixture
def server() -> Iterator[PlaybackServer]:
    with PlaybackServer() as playing:
        yield playing


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key and no address of the developer's gets into a test."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OLLAMA_HOST"):
        monkeypatch.delenv(name, raising=False)
