"""The HTTP server: who may come in, what is read of a request, which way it goes, and an orderly end.

aiohttp on both sides, by measurement (November 2026, one core, instant upstream on loopback): 3,600 requests/s with
its server and client, 4,400 with uvicorn's server and httptools, 900 with httpx as the client; a third package was not
worth the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from wherry.errors import ConfigurationError, MissingExtra, StoreError
from wherry.guard.proxy.anthropic_format import ANTHROPIC
from wherry.guard.proxy.artifact_tools import read_and_answered
from wherry.guard.proxy.attempt import Work
from wherry.guard.proxy.bounding import Asked
from wherry.guard.proxy.counting import PATH as COUNTING
from wherry.guard.proxy.counting import counted
from wherry.guard.proxy.diary import Diary
from wherry.guard.proxy.exchange import Exchange
from wherry.guard.proxy.formats import CHAT, Body, Format
from wherry.guard.proxy.headers import back, onward
from wherry.guard.proxy.keys import Client, Keys
from wherry.guard.proxy.metrics import Metrics
from wherry.guard.proxy.refusals import Refusal, Shape
from wherry.guard.proxy.relay import ClientGone, as_json, refused, relay, whole
from wherry.guard.proxy.responses_format import RESPONSES
from wherry.guard.proxy.settings import ProxySettings, is_loopback_host
from wherry.guard.proxy.upstream import CONNECT_SECONDS, Upstream
from wherry.models.endpoints import is_loopback
from wherry.policy.recovery import Recovery
from wherry.store import Store

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from aiohttp.web import BaseRequest, StreamResponse

_log = logging.getLogger("wherry.guard")
_http_log = logging.getLogger("wherry.guard.http")
_http_log.disabled = True  # it quotes header lines that it cannot read, and one of them may be a key
_FORMATS: Mapping[str, Format] = {format_.path: format_ for format_ in (CHAT, RESPONSES, ANTHROPIC)}
_PATHS = ("chat/completions", "responses", "messages", COUNTING, "models")
OPT_IN = "x-wherry-artifacts"
"""The header by which a client lets the proxy keep what is too large and answer the model's questions for it."""


class Proxy:
    """A proxy that listens. Made by `running`."""

    def __init__(self, settings: ProxySettings, work: Work, keys: Keys) -> None:
        self.settings = settings
        self.work = work
        self.metrics = work.metrics
        self.host = settings.host
        self.port = settings.port
        self._keys = keys
        self._under_way = 0
        self._ending = False

    @property
    def url(self) -> str:
        """What clients take for their base URL."""
        host = self.host if self.host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104 - told, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/v1"

    @property
    def upstreams(self) -> Sequence[Upstream]:
        return self.work.upstreams

    # ---- one request

    async def handle(self, request: BaseRequest) -> StreamResponse:
        """Answer a request, whatever it is."""
        started = time.monotonic()
        path = request.path
        name = path.removeprefix("/v1/").strip("/") if path.startswith("/v1/") else path.strip("/")
        shape: Shape = (
            "anthropic" if name.startswith("messages") or "anthropic-version" in request.headers else "openai"
        )
        client: Client | None = None
        self._under_way += 1
        status = 500
        try:
            if name == "health" and request.method == "GET":
                response = await self._health(request)
            else:
                self._check_origin(request)
                client = self._keys.client(request.headers)
                response = await self._routed(request, name, client)
            status = response.status
        except Refusal as refusal:
            status = refusal.status
            response = await refused(request, refusal, shape)
        except ClientGone as gone:
            status = 499  # nginx's number for it
            self.metrics.count("cut_total", reason=str(gone))
            raise asyncio.CancelledError from None  # there is nobody to answer
        except asyncio.CancelledError:
            status = 499
            raise
        except Exception as error:  # noqa: BLE001 - a fault of the proxy's own ends one request, and no other
            _log.exception("a request to /%s failed", name)
            response = await refused(
                request, Refusal(500, f"the proxy failed: {type(error).__name__}", code="proxy_error"), shape
            )
        finally:
            self._under_way -= 1
            seconds = time.monotonic() - started
            who = client.name if client is not None else "nobody"
            known = (
                name
                if name.split("/")[0] in ("chat", "responses", "messages", "models", "health", "metrics")
                else "other"
            )
            self.metrics.count(
                "requests_total", key=who, path=known if len(known) < 40 else "other", status=str(status)
            )
            self.metrics.observe("request_seconds", seconds)
        if self._ending:
            response.force_close()
        return response

    def _check_origin(self, request: BaseRequest) -> None:
        """Refuse what a web page sends behind its reader's back.

        A page can give its own host's name the address 127.0.0.1 (DNS rebinding), and then the browser takes this for
        that host; or send a form. Who has shown a key or a token of the proxy's is no such page.
        """
        origin = request.headers.get("origin")
        if origin is not None and origin != "null" and not is_loopback(origin):
            raise Refusal(403, f"pages of {origin[:100]!r} may not ask here", code="origin_not_allowed", close=True)
        if self.settings.token is not None or self.settings.keys:
            return
        host = request.headers.get("host", "")
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if name and not is_loopback_host(name) and name != self.settings.host:
            raise Refusal(
                403,
                f"this proxy is not {name[:100]!r}: it listens for programs on this machine",
                code="host_not_allowed",
                close=True,
            )

    async def _routed(self, request: BaseRequest, name: str, client: Client) -> StreamResponse:
        if name == "metrics" and request.method == "GET":
            return await self._metrics(request)
        if (name == "models" or name.startswith("models/")) and request.method == "GET":
            return await self._models(request, name, client)
        format_ = ANTHROPIC if name == COUNTING else _FORMATS.get(name)
        if format_ is None:
            served = ", ".join(f"/v1/{path}" for path in _PATHS)
            raise Refusal(404, f"there is no /{name[:100]}; there are {served}, /health and /metrics", code="not_found")
        if request.method != "POST":
            raise Refusal(405, f"/v1/{name} takes POST", code="method_not_allowed", headers={"allow": "POST"})
        if self._ending or self._under_way > self.settings.most_requests:
            raise Refusal(
                503, "the proxy has too much to do, or is ending", code="overloaded", headers={"retry-after": "1"}
            )
        asked = await self._read(request, format_)
        if name == COUNTING:
            told = await counted(asked, self.upstreams, self.settings, request.headers, client)
            return await whole(request, told.status, told.headers, told.body, self.settings.reader_seconds)
        day = await self.work.diary.day(client)
        artifacts = request.headers.get(OPT_IN, "").lower() in ("1", "true", "yes", "on")
        exchange = Exchange(self.work, asked, day, request.headers, artifacts=artifacts)
        day.under_way += 1
        try:
            answer = await (read_and_answered(exchange) if artifacts else exchange.answer())
            return await relay(request, exchange, answer)
        finally:
            day.under_way -= 1

    async def _read(self, request: BaseRequest, format_: Format) -> Asked:
        """The request's body.

        Raises:
            Refusal: It is too large, too slow, or no request.
        """
        if not request.content_type.endswith("json"):
            raise Refusal(415, "the content-type has to be application/json", code="unsupported_media_type", close=True)
        limit = self.settings.body_limit
        if (request.content_length or 0) > limit:
            raise _too_large(limit)
        if request.headers.get("expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        raw = bytearray()
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                while chunk := await request.content.readany():
                    raw += chunk
                    if len(raw) > limit:
                        raise _too_large(limit)
        except TimeoutError:
            self.metrics.count("cut_total", reason="slow body")
            raise Refusal(
                408, f"the request did not come within {self.settings.body_seconds:g} s", code="too_slow", close=True
            ) from None
        data = bytes(raw)
        try:
            # As UTF-8: `json` would take UTF-16 as well, and nothing that is added to a body is written so.
            body: object = json.loads(data.decode())
        except (ValueError, RecursionError) as error:
            raise Refusal(400, f"the request is no JSON: {str(error)[:200]}", code="invalid_json") from None
        if not isinstance(body, dict) or not body:
            raise Refusal(400, "the request is no JSON object", code="invalid_json")
        fields = cast("Body", body)
        many = fields.get("n")
        messages, system = format_.conversation(fields)
        return Asked(
            format_,
            fields,
            data,
            messages,
            system,
            format_.tools(fields),
            fields.get("stream") is True,
            many if isinstance(many, int) and 1 <= many <= 128 else 1,
        )

    # ---- what is no question to a model

    async def _health(self, request: BaseRequest) -> StreamResponse:
        status = "ending" if self._ending else "ok"
        return await whole(
            request,
            503 if self._ending else 200,
            [("content-type", "application/json")],
            as_json({"status": status, "in_flight": self._under_way - 1}),
            self.settings.reader_seconds,
        )

    async def _metrics(self, request: BaseRequest) -> StreamResponse:
        self.metrics.gauge("in_flight", self._under_way - 1)
        for upstream in self.upstreams:
            for place in upstream.learned():
                labels = {"upstream": upstream.url, "model": place.name}
                self.metrics.gauge("waiting", place.backend.gate.waiting, **labels)
                self.metrics.gauge("window_tokens", place.backend.window(place.window), **labels)
        return await whole(
            request,
            200,
            [("content-type", "text/plain; version=0.0.4; charset=utf-8")],
            self.metrics.text().encode(),
            self.settings.reader_seconds,
        )

    async def _models(self, request: BaseRequest, name: str, client: Client) -> StreamResponse:
        """What the first upstream that answers says of its models."""
        # What a client writes must not lead out of there: the upstream's key opens more than that.
        segments = name.split("/")
        if any(segment in ("", ".", "..") for segment in segments):
            raise Refusal(404, "there is no model of this name", code="not_found")
        name = "/".join(quote(segment, safe=":@") for segment in segments)
        for upstream in sorted(self.upstreams, key=lambda one: one.resting):
            headers = onward(request.headers, upstream, own_key=client.own_key, first=self.upstreams[0], shape="openai")
            answer = await upstream.get(name, headers)
            if answer is not None:
                status, theirs, body = answer
                return await whole(request, status, back(theirs), body, self.settings.reader_seconds)
        raise Refusal(502, "no upstream answers", code="upstream_unreachable")

    def end(self) -> None:
        """Take no more requests."""
        self._ending = True


def _too_large(limit: int) -> Refusal:
    return Refusal(
        413,
        f"the request is larger than {limit:,} bytes, the most that this proxy takes (`--body-limit`)",
        code="request_too_large",
        close=True,
    )


@asynccontextmanager
async def running(
    settings: ProxySettings, *, store: Store | None = None, recovery: Recovery | None = None
) -> AsyncGenerator[Proxy]:
    """A proxy that listens for as long as the block; replies under way are given time at its end.

    Args:
        settings: What it is told.
        store: Where runs are written; None: nowhere.
        recovery: What is tried again, and how long is waited.

    Raises:
        MissingExtra: aiohttp is not installed.
        ConfigurationError: The port is taken, the address is none of this machine's, a file of keys is wrong.
    """
    try:
        from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
        from aiohttp.web import Server, ServerRunner
    except ImportError:
        raise MissingExtra("the proxy", "guard") from None
    keys = Keys.of(settings)
    metrics = Metrics()
    async with contextlib.AsyncExitStack() as stack:

        async def session(url: str) -> ClientSession:
            opened = ClientSession(
                connector=TCPConnector(limit=0, keepalive_timeout=15.0),
                timeout=ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                cookie_jar=DummyCookieJar(),
                skip_auto_headers=("user-agent", "accept"),
                trust_env=not is_loopback(url),
            )
            return await stack.enter_async_context(opened)

        upstreams = [Upstream(spec, settings, await session(spec.url)) for spec in settings.upstreams]
        diary = Diary(
            store if settings.record else None,
            models=", ".join(spec.model or spec.url for spec in settings.upstreams),
            window=settings.window,
            on_error=lambda _: metrics.count("journal_errors_total"),
        )
        work = Work(settings, upstreams, diary, metrics)
        if recovery is not None:
            work = replace(work, recovery=recovery)
        proxy = Proxy(settings, work, keys)
        server = Server(
            cast("Callable[[BaseRequest], Awaitable[StreamResponse]]", proxy.handle),
            handler_cancellation=True,  # a client that goes away takes its request to the upstream with it
            keepalive_timeout=settings.header_seconds,
            access_log=None,
            logger=_http_log,
            lingering_time=1.0,
            auto_decompress=False,
        )
        runner = ServerRunner(server, shutdown_timeout=settings.grace_seconds)
        await runner.setup()
        try:
            await _listen(runner, settings, proxy)
        except BaseException:
            await runner.cleanup()
            raise
        writing = asyncio.create_task(diary.keep_writing())
        try:
            yield proxy
        finally:
            proxy.end()
            await runner.cleanup()
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError, StoreError):
                await writing
            await diary.close()


async def _listen(runner: object, settings: ProxySettings, proxy: Proxy) -> None:
    from aiohttp.web import BaseRunner, TCPSite

    site = TCPSite(cast("BaseRunner", runner), settings.host, settings.port, reuse_address=True)
    try:
        await site.start()
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(f"{where} is in use", hint="another --port; 0 takes any free one") from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise ConfigurationError(f"{where} may not be listened on", hint="give a --port above 1023") from None
        raise ConfigurationError(
            f"{where} cannot be listened on: {error.strerror or error}", hint="--host is an address of this machine"
        ) from None
    proxy.port = int(cast("BaseRunner", runner).addresses[0][1])
