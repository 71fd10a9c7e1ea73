"""The servers that requests go to: what is known of their models, and one way to ask them."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from wherry.context import DEFAULT_WINDOW, ContextBudget, TokenCounter
from wherry.guard import Fitter
from wherry.guard.proxy.settings import ProxySettings, UpstreamSpec
from wherry.models.discovery import Discovered, discover
from wherry.models.endpoints import is_loopback, is_openai, root_of
from wherry.models.families import Family, family_of
from wherry.models.pricing import FREE
from wherry.models.protocol import ModelProfile
from wherry.policy.admission import Backend
from wherry.store.protocol import Artifacts

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

CONNECT_SECONDS = 10.0
ASK_AGAIN_SECONDS = 30.0
"""Before a server that could not say its window is asked once more."""
_MOST_MODELS, _MOST_FITTERS = 64, 12


@dataclass(slots=True)
class Place:
    """One model at one upstream."""

    name: str
    """As clients name it."""
    window: int
    backend: Backend
    family: Family
    known_as: str
    """The name that its server has for it."""
    price_key: str | None
    discovered: bool
    """Whether the server said its window."""
    final: bool
    ask_again: float
    counter: TokenCounter = field(init=False)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while something is fitted: a large conversation is, in a thread."""
    _fitters: OrderedDict[tuple[Any, ...], Fitter] = field(default_factory=OrderedDict[tuple[Any, ...], Fitter])

    def __post_init__(self) -> None:
        self.counter = TokenCounter.for_profile(ModelProfile(self.known_as, counter=self.family.counter))

    def fitter(self, window: int, *, strict: bool, artifacts: Artifacts | None = None, run_id: str = "") -> Fitter:
        """What fits conversations into so much."""
        key = (window, strict, run_id if artifacts is not None else None)
        found = self._fitters.pop(key, None)
        if found is None:
            found = Fitter(ContextBudget(window), self.counter, strict=strict, artifacts=artifacts, run_id=run_id)
        self._fitters[key] = found
        if len(self._fitters) > _MOST_FITTERS:
            self._fitters.popitem(last=False)
        return found


class Upstream:
    """One server."""

    def __init__(self, spec: UpstreamSpec, settings: ProxySettings, session: ClientSession) -> None:
        self.spec = spec
        self.url = spec.url
        self.hosted = is_openai(spec.url)
        self.local = is_loopback(spec.url)
        self.rests_until = 0.0
        """By the loop's clock: until when another one is asked first."""
        self.tells_usage = True
        """Whether its streams take the option to tell what was used."""
        self._settings = settings
        self._session = session
        self._places: OrderedDict[str, Place] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Place]] = {}

    async def place(self, name: str, headers: Mapping[str, str]) -> Place:
        """What is known of a model there; its server is asked when it is the first time."""
        found = self._places.get(name)
        if found is not None and (found.final or time.monotonic() < found.ask_again):
            return found
        asking = self._asking.get(name)
        if asking is None:
            # A task of its own: the client that asked first may go away, and others wait for the same answer.
            asking = self._asking[name] = asyncio.create_task(self._find(name, headers))
            asking.add_done_callback(lambda _: self._asking.pop(name, None))
        # What is known serves until more is: nobody waits for a server that is asked once more.
        return await asyncio.shield(asking) if found is None else found

    async def _find(self, name: str, headers: Mapping[str, str]) -> Place:
        found, known_as = await self._discovered(name, headers)
        given = self._settings.window
        sizes = [size for size in (given, found.window) if size is not None]
        window = min(sizes, default=DEFAULT_WINDOW)
        before = self._places.get(name)
        if before is not None and before.window == window:
            before.final, before.ask_again = found.final, time.monotonic() + ASK_AGAIN_SECONDS
            return before
        flight = None if found.slots is None or found.window is None else found.window * found.slots
        place = Place(
            name,
            window,
            Backend(f"{self.url} {known_as}", tokens_in_flight=flight, slots=found.slots),
            family_of(known_as),
            known_as,
            f"openai/{known_as}" if self.hosted else FREE if self.local else known_as,
            discovered=found.window is not None,
            final=found.final,
            ask_again=time.monotonic() + ASK_AGAIN_SECONDS,
        )
        self._places[name] = place
        if len(self._places) > _MOST_MODELS:  # names are the clients' own
            self._places.popitem(last=False)
        return place

    async def _discovered(self, name: str, headers: Mapping[str, str]) -> tuple[Discovered, str]:
        async def get(url: str, body: Mapping[str, Any] | None = None) -> object:
            method = "GET" if body is None else "POST"
            data = None if body is None else json.dumps(body).encode()
            async with self._session.request(
                method, url, data=data, headers={**headers, "content-type": "application/json"}, allow_redirects=False
            ) as answer:
                if answer.status >= 400:
                    raise _Refused(answer.status)
                return json.loads(await answer.read())

        asked = name
        if not self.hosted:
            names = await self.names(headers)
            if len(names) == 1 and name not in names:
                asked = names[0]  # llama.cpp and others with one model answer to any name
        found = await discover(get, self.url, asked, hosted=self.hosted)
        return found, asked or found.name or name

    async def names(self, headers: Mapping[str, str]) -> list[str]:
        """The models that the server lists; none where it does not."""
        try:
            async with asyncio.timeout(3.0):
                async with self._session.get(
                    f"{self.url}/models", headers=dict(headers), allow_redirects=False
                ) as answer:
                    listed: object = json.loads(await answer.read()) if answer.status == 200 else None
        except Exception:  # noqa: BLE001 - whatever keeps it from saying so
            return []
        data = cast("dict[str, object]", listed).get("data") if isinstance(listed, dict) else None
        items = cast("list[object]", data) if isinstance(data, list) else []
        return [str(cast("dict[str, object]", item).get("id")) for item in items if isinstance(item, dict)]

    async def post(self, path: str, data: bytes, headers: Mapping[str, str]) -> ClientResponse:
        """Ask. The answer's head is there, its body is not read.

        Raises:
            aiohttp.ClientError, TimeoutError: There is no answer.
        """
        async with asyncio.timeout(self._settings.first_token_seconds):
            return await self._session.request(
                "POST", f"{self.url}/{path}", data=data, headers=dict(headers), allow_redirects=False
            )

    async def get(self, path: str, headers: Mapping[str, str]) -> tuple[int, list[tuple[str, str]], bytes] | None:
        """What it answers to a question that no model has to think about; None where it does not answer."""
        from aiohttp import ClientError

        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                async with self._session.get(
                    f"{self.url}/{path}", headers=dict(headers), allow_redirects=False
                ) as answer:
                    return answer.status, [*answer.headers.items()], await answer.read()
        except (ClientError, OSError, ValueError):
            return None

    async def healthy(self, seconds: float) -> bool:
        """Whether it answers within so many seconds; asked again until it does."""
        end = time.monotonic() + seconds
        while True:
            try:
                async with asyncio.timeout(5.0):
                    async with self._session.get(f"{root_of(self.url)}/health", allow_redirects=False) as answer:
                        if answer.status < 500:
                            return True
            except Exception:  # noqa: BLE001, S110 - not yet
                pass
            if time.monotonic() >= end:
                return False
            await asyncio.sleep(0.5)

    def rest(self, seconds: float) -> None:
        """Ask others first for a while."""
        self.rests_until = max(self.rests_until, time.monotonic() + seconds)

    @property
    def resting(self) -> bool:
        return time.monotonic() < self.rests_until

    def learned(self) -> list[Place]:
        """The models that were asked for."""
        return [*self._places.values()]

    async def first_place(self) -> Place | None:
        """What a client will find that asks for the only model; None where there are several, or none can be seen."""
        headers = {} if self.spec.key is None else {"authorization": f"Bearer {self.spec.key.reveal()}"}
        names = [self.spec.model] if self.spec.model else await self.names(headers)
        if len(names) != 1:
            return None
        return await self.place(names[0], headers)


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status_code = status
        """`discover` tells by it an answer from none."""
