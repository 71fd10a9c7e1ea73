"""A model with others behind it, for when it fails."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from wherry.errors import ConfigurationError, WherryError
from wherry.models.call import Call, current_call, deltas_of, target
from wherry.models.failure_kind import FailureKind
from wherry.models.failures import Failure
from wherry.models.protocol import Model, ModelDelta, ModelProfile, ModelReply, ModelRequest, Prepared
from wherry.models.resolve import model_from

if TYPE_CHECKING:
    from collections.abc import Sequence

REST_SECONDS = 60.0
USUAL_KINDS = frozenset(FailureKind) - {FailureKind.BadRequest, FailureKind.ContentFiltered}
"""A request that is wrong is wrong everywhere; another model might answer what one filtered, but that is for the user
to say."""


class Fallback:
    """Asks the first model, and the next one when that fails.

    Args:
        model: The one that is asked as long as it answers.
        others: Those behind it, in order.
        on: The kinds of failure that are another model's turn; default: all but `BadRequest` and `ContentFiltered`.
        rest: Seconds that a model which failed is left alone, before it is the first to be asked again.
        clock: What time it is, in seconds.

    In an agent's run the recovery policy comes first: a lost connection is tried again, an overflow is made smaller.
    Only what it gives up goes to the next model, and the request is made anew, for that model's window. Used by itself,
    the next model is asked at once.

    Of the profile, the window is that of the model whose turn it is; what a request may hold (tools, images) is what
    all of them take. Tokens are counted with the models' tokenizer if they share one, else with an upper estimate.

    Raises:
        ConfigurationError: There is no other model, or `on` has no failure's name.
    """

    def __init__(
        self,
        model: Model | str,
        *others: Model | str,
        on: Iterable[FailureKind | str] | None = None,
        rest: float = REST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not others:
            raise ConfigurationError(
                "a Fallback has one model", hint="give the other behind it: Fallback(model, other)"
            )
        self._models = tuple(model_from(each) for each in (model, *others))
        self._kinds = USUAL_KINDS if on is None else frozenset(_kind(each) for each in _all(on))
        self._rest = rest
        self._clock = clock
        self._rests: dict[int, float] = {}
        """By position: until when a model that failed is left alone."""

    @property
    def models(self) -> Sequence[Model]:
        """All of them, in order."""
        return self._models

    @property
    def profile(self) -> ModelProfile:
        """That of the model whose turn it is, with what all of them take."""
        return self._shared(self.route(current_call()).profile)

    async def prepare(self) -> ModelProfile:
        """Get a model ready: the first that can be."""
        for position in range(len(self._models)):
            model = self._models[position]
            try:
                found = await model.prepare() if isinstance(model, Prepared) else model.profile
            except WherryError as error:
                if position + 1 == len(self._models) or Failure.of(error).kind not in self._kinds:
                    raise
                self._let_rest(position)
            else:
                return self._shared(found)
        raise AssertionError  # the last one either came up or raised

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The reply of the first model that gives one.

        Raises:
            ModelError: None did; the error is the last one's.
        """
        call = current_call()
        if call is not None:
            model = self.route(call)
            try:
                return await model.complete(request)
            except Exception as error:
                self._offer(call, error)
                raise
        position = self._first()
        while True:
            try:
                return await (await self._ready(position)).complete(request)
            except Exception as error:
                if (after := self._after(position, error)) is None:
                    raise
                position = after

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelDelta]:
        """As `complete`. Once a piece has been given, the stream fails where its model fails."""
        call = current_call()
        position = self._first() if call is None else self._position(call)
        begun = False
        while True:
            model = self._models[position] if call is not None else await self._ready(position)
            try:
                async with deltas_of(model, request) as deltas:
                    async for delta in deltas:
                        begun = True
                        yield delta
                return
            except Exception as error:
                if call is not None:
                    self._offer(call, error)
                    raise
                after = None if begun else self._after(position, error)
                if after is None:
                    raise
                position = after

    # ---- within a call, which the recovery policy watches over

    def route(self, call: Call | None) -> Model:
        return self._models[self._first() if call is None else self._position(call)]

    def move_on(self, call: Call, kind: str) -> bool:
        position = self._position(call)
        # A model that failed for one of the kinds is not asked again because it then failed for another.
        if not (kind in self._kinds or (id(self), position) in call.failed) or position + 1 >= len(self._models):
            return False
        self._let_rest(position)
        call.positions[id(self)] = position + 1
        return True

    def _position(self, call: Call) -> int:
        return call.positions.setdefault(id(self), self._first())

    def _offer(self, call: Call, error: Exception) -> None:
        if Failure.of(error).kind in self._kinds:
            call.failed.add((id(self), self._position(call)))
        call.ways_on.append(self)

    # ---- which one

    def _first(self) -> int:
        """The first that is not left alone; the very first if all are."""
        if not self._rests:
            return 0
        now = self._clock()
        return next((n for n in range(len(self._models)) if self._rests.get(n, 0.0) <= now), 0)

    def _after(self, position: int, error: Exception) -> int | None:
        """The one to ask after a failure; None when the failure is the answer."""
        if Failure.of(error).kind not in self._kinds or position + 1 >= len(self._models):
            return None
        self._let_rest(position)
        return position + 1

    def _let_rest(self, position: int) -> None:
        self._rests[position] = self._clock() + self._rest

    async def _ready(self, position: int) -> Model:
        model = self._models[position]
        if position and isinstance(model, Prepared):
            await model.prepare()
        return model

    def _shared(self, profile: ModelProfile) -> ModelProfile:
        all_of_them = [target(model).profile for model in self._models]
        # One window serves them all, and what one tokenizer counts may be half of what another makes of it. A layer's
        # own profile counts too: it may have several models behind it.
        counters = [one.counter for one in (profile, *all_of_them, *(model.profile for model in self._models))]
        return replace(
            profile,
            counter=counters[0] if all(counter == counters[0] for counter in counters) else "bytes",
            native_tools=all(each.native_tools for each in all_of_them),
            images=all(each.images for each in all_of_them),
            control_tokens=tuple(dict.fromkeys(token for each in all_of_them for token in each.control_tokens)),
        )

    def __repr__(self) -> str:
        return f"Fallback({', '.join(repr(model) for model in self._models)})"


def _all(on: Iterable[FailureKind | str]) -> Iterable[FailureKind | str]:
    return (on,) if isinstance(on, str) else on


def _kind(name: FailureKind | str) -> FailureKind:
    try:
        return FailureKind(name)
    except ValueError:
        raise ConfigurationError(
            f"on has {name!r}, which is no kind of failure", hint=f"kinds are {', '.join(FailureKind)}"
        ) from None
