"""The name that programs import from `autogen.llm_config`."""

from __future__ import annotations

from wherry.compat.autogen.settings import LLMConfig

__all__ = ["LLMConfig"]
