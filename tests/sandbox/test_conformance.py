"""Every tier says what the protocol says."""

from __future__ import annotations

import anyio
import pytest

from wherry.errors import SandboxUnavailable
from wherry.sandbox import Sandbox, SandboxLimits, get_sandbox
from wherry.sandbox.conformance import check_sandbox


@pytest.mark.parametrize("tier", ["namespaces", "unsafe"])
def test_tier_conforms(tier: str) -> None:
    def make() -> Sandbox:
        try:
            return get_sandbox(tier, limits=SandboxLimits(wall_seconds=1))
        except SandboxUnavailable as error:
            pytest.skip(error.message)

    anyio.run(check_sandbox, make)
