"""An OpenAI-compatible proxy that bounds what goes through it."""

from __future__ import annotations

from wherry.guard.proxy.server import Proxy, running
from wherry.guard.proxy.settings import ProxySettings, UpstreamSpec

__all__ = ["Proxy", "ProxySettings", "UpstreamSpec", "running"]
