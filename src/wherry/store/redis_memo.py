"""The memo in Redis, for those who have one: each scope a hash of values, and a sorted set of when they are over.

Every operation is one script, which Redis runs alone. The times are the server's.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from wherry.errors import ConfigurationError, MissingExtra, StoreError
from wherry.failpoints import failpoint
from wherry.messages import JSON, canonical, parse
from wherry.redaction import redact_json
from wherry.store.connections import closed_error
from wherry.store.database import blob, text
from wherry.store.memo import SCOPE_BYTES, encoded, scope_full

if TYPE_CHECKING:
    from redis import Redis
    from redis.commands.core import Script

PREFIX = b"wherry:memo:"

# KEYS: values, ends, size. ARGV: key, and what the operation needs. `forget` takes out what is over.
_FORGET = """
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1e6
local gone = 0
local function remove(key)
  local old = redis.call('HGET', KEYS[1], key)
  if not old then return false end
  redis.call('HDEL', KEYS[1], key)
  redis.call('ZREM', KEYS[2], key)
  redis.call('DECRBY', KEYS[3], #old + #key)
  if redis.call('HLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[3]) end
  return true
end
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
  if remove(key) then gone = gone + 1 end
end
"""
_SET = (
    _FORGET
    + """
local key, value, ttl, most, compare, expected = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local old = redis.call('HGET', KEYS[1], key)
if compare == '1' and (old or 'null') ~= expected then return 0 end
if value == 'null' then remove(key) return 1 end
local size = tonumber(redis.call('GET', KEYS[3]) or '0') + #value + (old and -#old or #key)
if size > most then return -1 end
redis.call('HSET', KEYS[1], key, value)
redis.call('SET', KEYS[3], size)
if ttl == '' then redis.call('ZREM', KEYS[2], key) else redis.call('ZADD', KEYS[2], now + tonumber(ttl), key) end
return 1
"""
)
_DELETE = _FORGET + "return remove(ARGV[1]) and 1 or 0"
_GET = _FORGET + "return redis.call('HGET', KEYS[1], ARGV[1])"
_LIST = _FORGET + "return redis.call('HGETALL', KEYS[1])"
_PRUNE = _FORGET + "return gone"


class RedisMemo:
    """A memo in a Redis server, or one that speaks like it.

    What a call did is as durable as the server keeps its data: with `appendfsync everysec` a crash of the server can
    take the last second.

    Args:
        url: `redis://user:password@host:port/number`, `rediss://...` or `unix://...`.

    Raises:
        MissingExtra: redis is not installed.
        ConfigurationError: The URL is none.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis
            from redis.backoff import ExponentialBackoff
            from redis.retry import Retry
        except ImportError:
            raise MissingExtra("a memo in Redis", "redis") from None
        self._error = redis.RedisError
        self._closed = False
        try:
            # A restart takes a moment. A command whose answer was lost is sent again, too: a comparison that was made
            # the first time then says False, and whoever asked finds their own value.
            retry = Retry(ExponentialBackoff(cap=1.0, base=0.05), 8)
            make = cast("Callable[..., Redis]", redis.Redis.from_url)  # pyright: ignore[reportUnknownMemberType] - half typed
            self._redis = make(
                url, retry=retry, retry_on_error=[redis.BusyLoadingError], socket_connect_timeout=5, socket_timeout=30
            )
        except ValueError as error:
            raise ConfigurationError(
                f"the memo's URL cannot be read: {error}", hint="write `redis://host:port/0`"
            ) from error
        kwargs = self._redis.connection_pool.connection_kwargs
        self.url = f"redis://{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}/{kwargs.get('db', 0)}"
        """Without the password."""
        names = {"get": _GET, "set": _SET, "delete": _DELETE, "list": _LIST, "prune": _PRUNE}
        self._scripts: dict[str, Script] = {name: self._redis.register_script(script) for name, script in names.items()}

    def get(self, scope: str, key: str) -> JSON:
        found = self._run("get", scope, blob(key))
        return None if found is None else parse(found)

    def set(self, scope: str, key: str, value: JSON, *, ttl: float | None = None) -> None:
        self._set(scope, key, encoded(value), ttl, None)

    def compare_and_set(self, scope: str, key: str, *, expected: JSON, value: JSON, ttl: float | None = None) -> bool:
        return self._set(scope, key, encoded(value), ttl, redact_json(canonical(expected)))

    def delete(self, scope: str, key: str) -> bool:
        return self._run("delete", scope, blob(key)) == 1

    def list(self, scope: str) -> dict[str, JSON]:
        flat = cast("list[bytes]", self._run("list", scope))
        pairs = sorted(zip(flat[::2], flat[1::2], strict=True))
        return {text(key): parse(value) for key, value in pairs}

    def scopes(self) -> builtins.list[str]:
        found: builtins.list[bytes] = []
        for place in self._places():
            self._run_at("prune", place)
            if self._run_at("list", place):
                found.append(bytes.fromhex(place[len(PREFIX) + 1 : -2].decode()))
        return [text(scope) for scope in sorted(found)]

    def prune(self) -> int:
        return sum(cast("int", self._run_at("prune", place)) for place in self._places())

    def _places(self) -> builtins.list[bytes]:
        """Where the scopes are that have had values. A scan may give one twice."""
        if self._closed:
            raise closed_error(self.url)
        try:
            scan = cast("Callable[..., Iterable[bytes]]", self._redis.scan_iter)  # pyright: ignore[reportUnknownMemberType]
            return builtins.list({name.removesuffix(b"values") for name in scan(match=PREFIX + b"*:values", count=500)})
        except self._error as error:
            raise self._told(error) from error

    def close(self) -> None:
        self._closed = True
        self._redis.close()

    def _set(self, scope: str, key: str, body: bytes, ttl: float | None, expected: bytes | None) -> bool:
        lasts = "" if ttl is None else repr(float(ttl))
        compare = b"0" if expected is None else b"1"
        done = self._run("set", scope, blob(key), body, lasts, SCOPE_BYTES, compare, expected or b"")
        if done == -1:
            raise scope_full(scope)
        return done == 1

    def _run(self, name: str, scope: str, *values: bytes | str | int) -> Any:  # Any: what the script returns
        # Braces: in a cluster all keys of a scope must be in one place.
        return self._run_at(name, PREFIX + b"{" + blob(scope).hex().encode() + b"}:", *values)

    def _run_at(self, name: str, place: bytes, *values: bytes | str | int) -> Any:  # Any: what the script returns
        if self._closed:
            raise closed_error(self.url)
        failpoint("memo.redis")
        try:
            result = self._scripts[name](keys=[place + b"values", place + b"ends", place + b"size"], args=values)
        except self._error as error:
            raise self._told(error) from error
        failpoint("memo.redis.done")
        return result

    def _told(self, error: Exception) -> StoreError:
        return StoreError(
            f"the memo {self.url!r} cannot be read or written (Redis: {error})",
            hint="does the server run, is it at this address, and may this user use it?",
        )
