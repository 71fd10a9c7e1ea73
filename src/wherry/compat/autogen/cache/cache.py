"""Answers that are kept: `cache_seed`, and `Cache`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, ClassVar  # Any: configurations of others

from wherry.models import Cached, Model, ModelDelta, ModelProfile, ModelReply, ModelRequest, Prepared
from wherry.models.call import Call


class Cache:
    """Replies that were given to the same request before, in wherry's store; each seed has its own.

    `with Cache.disk(cache_seed=42) as cache: user.initiate_chat(assistant, cache=cache, message=...)`
    """

    ALLOWED_CONFIG_KEYS: ClassVar[list[str]] = ["cache_seed", "redis_url", "cache_path_root", "cosmos_db_config"]

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config = dict(config or {})
        for key in self.config:
            if key not in self.ALLOWED_CONFIG_KEYS:
                raise ValueError(f"Invalid config key: {key}")
        self.seed: str | int = self.config.get("cache_seed", 42)

    @staticmethod
    def disk(cache_seed: str | int = 42, cache_path_root: str = ".cache") -> Cache:
        return Cache({"cache_seed": cache_seed, "cache_path_root": cache_path_root})

    @staticmethod
    def redis(cache_seed: str | int = 42, redis_url: str = "redis://localhost:6379/0") -> Cache:
        return Cache({"cache_seed": cache_seed, "redis_url": redis_url})

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *error: object) -> None:
        return

    def close(self) -> None:
        """Nothing is open."""


class _Seeded:
    """A model under a name that has the seed in it."""

    def __init__(self, model: Model, seed: str) -> None:
        self._model = model
        self._seed = seed

    @property
    def profile(self) -> ModelProfile:
        profile = self._model.profile
        return replace(profile, variant=f"{profile.variant}/{self._seed}")

    async def prepare(self) -> ModelProfile:
        if isinstance(self._model, Prepared):
            await self._model.prepare()
        return self.profile

    def route(self, call: Call | None) -> Model:
        return self._model

    async def complete(self, request: ModelRequest) -> ModelReply:
        return await self._model.complete(request)

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelDelta]:
        return self._model.stream(request)


def with_seed(model: Model, seed: str | int) -> Model:
    """The model, with its answers kept under a seed."""
    return Cached(_Seeded(model, f"seed:{seed}"))
