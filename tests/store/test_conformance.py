"""Every store does what the protocol says."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.store import open_store
from wherry.testing import check_store


@pytest.mark.parametrize("url", ["sqlite:///{}/w.db", "sqlite:///{}/w.db?synchronous=full", "memory://"])
def test_a_store_conforms(url: str, tmp_path: Path) -> None:
    check_store(lambda: open_store(url.format(tmp_path)))
