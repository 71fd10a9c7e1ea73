"""Asking the model: a bounded request, admitted to its server, tried again as the recovery policy says.

All that is sent to a model on behalf of an agent goes through here; nothing below retries. All of it is an event:
`model.requested` and `model.replied` or `model.failed` for every attempt, the last with what was decided.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import anyio

from wherry.agents.diagnosis import OfAProgram, explained, kind_of, of_a_model
from wherry.agents.hooked_request import hooked_request
from wherry.agents.metering import count_alike, end_failed, pricing, usage_of
from wherry.agents.sound_calls import sound_calls
from wherry.agents.streaming import deltas_wanted, streamed
from wherry.context import DEFAULT_WINDOW, Fitted
from wherry.errors import ContextBudgetError, ModelError, WherryError
from wherry.failpoints import failpoint
from wherry.journal import EventType
from wherry.messages import Message, ToolSchema, Usage, canonical
from wherry.models import Failure, FailureKind, Model, ModelProfile, ModelReply, ModelRequest
from wherry.models.call import Call, target
from wherry.models.protocol import Prepared
from wherry.policy import Reservation
from wherry.policy.admission import Backend, backend_of
from wherry.policy.recovery import Decision, Recovery, Trouble, recovery

if TYPE_CHECKING:
    from wherry.agents.run import Run

WHOLE_CHARS = 50_000
"""Of a reply that ends a turn of a conversation: it is not made a preview, even where it is large for the window."""
LEAST_OUTPUT = 16
"""Tokens that a reply gets at least, however small the window has become."""


async def ask(run: Run, *, with_tools: bool = True, aside: str = "") -> ModelReply:
    """The model's reply to what the window holds, appended to the window and to the journal.

    Raises:
        ContextBudgetError: The pinned parts do not fit; nothing was sent.
        ModelError: The server failed, and recovering from it did as well; its `diagnosis` has all of it.
    """
    run.refresh_toolbox()
    return await _Question(run, run.toolbox.native if with_tools else (), recovery(), aside=aside).answered()


@dataclass(slots=True)
class _Question:
    """One question of an agent's, until it has its answer."""

    run: Run
    tools: Sequence[ToolSchema]
    policy: Recovery
    aside: str = ""
    attempt: int = 0
    tried: list[str] = field(default_factory=list[str])
    """What was done about each failure, in words."""
    trouble: Trouble | None = None
    """None while nothing has gone wrong."""
    error: WherryError | None = None
    """Of the last attempt."""
    fitted: Fitted | None = None
    """What was sent last."""
    reservation: Reservation | None = None
    """What is set aside for it."""
    profile: ModelProfile | None = None
    """Of the model that is asked."""
    hooked: ModelRequest | None = None
    """The request as hooks want it; None where there are none."""

    async def answered(self) -> ModelReply:
        run = self.run
        deltas = self._told if deltas_wanted() else None
        call = Call(f"{id(run.journal.tree):x}", store=run.store, note=self._noted, deltas=deltas, attempts=True)
        try:
            with call:
                return await self._answer(call)
        finally:
            self._let_go()

    async def _answer(self, call: Call) -> ModelReply:
        run = self.run
        while True:
            self.attempt += 1
            call.ways_on.clear()
            model = target(run.model, call)
            profile = self.profile = run.profile if model is run.model else await _profile(model)
            backend = backend_of(model, profile)
            try:
                fitted = await self._fitted(backend, profile)
            except ContextBudgetError as error:
                if self.error is None:
                    raise
                # The server takes less than the parts that cannot be folded: the failure that said so is the cause.
                self.tried.append(f"nothing smaller can be sent ({error.message.partition(chr(10))[0]})")
                if self._turned_elsewhere(call, model):
                    continue
                raise self._explained(self.error) from error
            try:
                reply, seconds = await self._admitted(call, backend, fitted)
            except WherryError as error:
                failed = error
            except Exception as error:  # noqa: BLE001 - a user's own model raises what it likes
                failed = of_a_model(error)
                failed.__cause__ = error
            else:
                backend.answered()
                return await self._taken(reply, seconds)
            # Outside the handlers, so that waits and further attempts are not chained to what is over.
            await self._survived(failed, call, model, backend)

    def _let_go(self) -> None:
        """Leave nothing set aside, whatever went wrong between the reservation and its end."""
        if self.reservation is not None and self.reservation.open:
            end_failed(self.reservation, RuntimeError(), 0.0, self.profile or self.run.profile)

    # ---- one attempt

    async def _fitted(self, backend: Backend, profile: ModelProfile) -> Fitted:
        """The next request, of a size that the server takes now and the limits allow; recorded.

        Raises:
            LimitReached: It would be one too many, or too large.
        """
        run = self.run
        window = run.window
        run.room = run.room or window.window
        window.window = backend.window(min(run.room, self._taken_by(profile)))
        most = None
        if window.window < run.room:
            wanted = run.agent.context.reserve_output or profile.max_output
            most = max(LEAST_OUTPUT, min(wanted, window.window // 4))
        try:
            fitted = await window.request(system=run.toolbox.system, tools=self.tools, max_output=most)
        except ContextBudgetError:
            # What the server cannot take was guessed from its failure. As small as it gets, as long as it gets smaller.
            least = sum(window.sizes(LEAST_OUTPUT).values())
            if self.trouble is None or least >= self.trouble.asked:
                raise
            window.window = least
            fitted = await window.request(system=run.toolbox.system, tools=self.tools, max_output=LEAST_OUTPUT)
        changes: dict[str, Any] = {}
        try:
            if run.hooks is not None:
                self.hooked, fitted, changes = await hooked_request(run, run.hooks, fitted, self.tools, self.attempt)
                self.tools = self.hooked.tools
            self._let_go()
            self.reservation = await run.account.reserve(fitted.tokens, fitted.max_output, pricing(profile))
        except BaseException:
            window.not_sent()
            raise
        if fitted.max_output != self.reservation.max_output:
            fitted = replace(fitted, max_output=self.reservation.max_output)
        self.fitted = fitted
        again: dict[str, Any] = {} if self.attempt == 1 else {"attempt": self.attempt}
        if self.tools is not run.schemas:  # said once, and again when they have changed
            schemas = [schema.to_json() for schema in self.tools]
            if run.order.conversation is None:
                again["schemas"] = schemas
            else:  # hundreds of turns, each a run of its own, have the same: a message that is stored once
                text = canonical(schemas).decode("utf-8", "surrogatepass")
                again["schemas_in"] = run.journal.keep(Message("system", text))
            run.schemas = self.tools
        if self.aside:
            again["aside"] = self.aside
        if fitted.snapshot is not None:
            again["snapshot"] = fitted.snapshot
        elif fitted.told != fitted.add:
            again["told"] = list(fitted.told)
        run.journal.record(
            EventType.MODEL_REQUESTED,
            step=run.step,
            keep=fitted.keep,
            add=list(fitted.add),
            tools_digest=run.toolbox.digest,
            max_output=fitted.max_output,
            tokens=fitted.tokens,
            tools=fitted.tools,
            window=fitted.window,
            **again,
            **changes,
        )
        run.journal.send_soon()
        return fitted

    def _taken_by(self, profile: ModelProfile) -> int:
        """The largest request that a model is said to take, which may be another one than the run began with."""
        run = self.run
        if profile.window is not None and profile.window > 0:
            return profile.window
        if run.agent.context.window is not None or run.room <= DEFAULT_WINDOW:
            return run.room  # the user's word, or little enough for every model
        said = f"the context length of {profile.name!r} is not known; {DEFAULT_WINDOW:,} tokens are assumed for it"
        if said not in run.warnings:
            run.warn(said, "say it with the model's window=...")
        return DEFAULT_WINDOW

    async def _admitted(self, call: Call, backend: Backend, fitted: Fitted) -> tuple[ModelReply, float]:
        """The reply and the seconds that it took, once the server has room for the request."""
        model, reservation = self.run.model, cast("Reservation", self.reservation)
        request = ModelRequest(fitted.messages, self.tools, max_output=fitted.max_output)
        if self.hooked is not None:
            request = replace(self.hooked, max_output=fitted.max_output)
        call.tokens = tokens = fitted.tokens + fitted.max_output
        # After the limits: who waits for them holds no place that another needs to be done.
        try:
            await backend.gate.enter(tokens, call.owner)
        except BaseException:
            reservation.release()
            raise
        started = time.monotonic()
        try:
            tell = call.deltas
            reply = await (model.complete(request) if tell is None else streamed(model, request, tell))
        except BaseException as error:
            end_failed(reservation, error, time.monotonic() - started, self.profile or self.run.profile)
            raise
        finally:
            backend.gate.leave(tokens)
        failpoint("reply.came")
        return reply, time.monotonic() - started

    async def _taken(self, reply: ModelReply, seconds: float) -> ModelReply:
        """Settle, append and record a reply."""
        run, fitted = self.run, cast("Fitted", self.fitted)
        calls = sound_calls(reply.tool_calls, run.step)
        if calls != tuple(reply.tool_calls):
            reply = replace(reply, tool_calls=calls)
        said = reply.message()
        if reply.cached:
            usage = Usage(seconds=seconds)
        else:
            written = 0 if reply.usage else run.window.counter.message(said)
            usage = usage_of(reply, fitted.tokens, written, seconds, self.profile or run.profile)
        cast("Reservation", self.reservation).settle(usage)
        if reply.usage is not None and not reply.cached:
            if count_alike(run.model):
                run.window.report(reply.usage)
            else:
                # What one tokenizer made of these messages must not be taken for what the next will: it may only
                # make the estimate larger.
                counter = run.window.counter
                counter.report(int(fitted.tokens / counter.ratio), reply.usage.input_tokens)
        more: dict[str, Any] = {"cached": True} if reply.cached else {}
        # A turn of a conversation mostly ends with a reply without calls. What is escaped, or too large, is kept as it
        # was too: that is what is acted on.
        last = run.order.conversation is not None and not calls and len(reply.text) <= WHOLE_CHARS
        if (
            await run.window.append(said, whole=last) != said
        ):  # escaped, or too large: what is acted on is the reply as it was
            more["said"] = run.journal.keep(said)
        run.journal.record(
            EventType.MODEL_REPLIED,
            step=run.step,
            message=run.window.newest,
            usage=usage.to_json(),
            seconds=round(usage.seconds, 6),
            finish_reason=reply.finish_reason,
            model=reply.model or run.profile.name,
            estimated=reply.usage is None,
            **more,
        )
        if run.hooks is not None and self.hooked is not None:
            await run.hooks.after_model(self.hooked, reply)
        return reply

    def _told(self, text: str) -> None:
        self.run.journal.tell(EventType.MODEL_DELTA, step=self.run.step, attempt=self.attempt, text=text)

    def _noted(self, what: str, details: Mapping[str, Any]) -> None:
        """A layer did something about a failure by itself."""
        run = self.run
        run.journal.record(EventType.MODEL_FAILED, step=run.step, attempt=self.attempt, act=what, **details)
        said = str(details.get("said", what))
        self.tried.append(said)
        run.warn(said)

    # ---- after a failure

    async def _survived(self, error: WherryError, call: Call, model: Model, backend: Backend) -> None:
        """Do what the policy says; returns when another attempt is to be made.

        Raises:
            WherryError: None is.
        """
        run = self.run
        self.error = error
        if not isinstance(error, ModelError):
            self._record_failure(error, None, None)
            raise error
        if (error.diagnosis or {}).get("next_key"):
            return  # noted already; the next attempt is with another key
        failure = Failure.of(error)
        error.kind = failure.kind  # of one that was raised with words alone, what they mean
        trouble = self._troubled(error, failure)
        decision = self.policy.decide(failure, trouble)
        decision = self._prepared(decision, failure, backend, trouble)
        if decision.act == "give_up":
            self.tried.append(f"not again: {decision.why}")
            self._record_failure(error, failure, decision)
            if self._turned_elsewhere(call, model):
                return
            raise self._explained(error)
        self._record_failure(error, failure, decision)
        run.journal.send()  # a wait may be long: what it is for can be seen meanwhile
        trouble.waited += decision.wait
        if decision.wait > 0:
            await self.policy.sleep(decision.wait)
        given = self._health_seconds(error, backend)
        if decision.check_health and not await self._healthy(model, trouble, given):
            self.tried.append(f"its server was not healthy again within {given:.0f} s")
            if not self._turned_elsewhere(call, model):
                raise self._explained(error)

    def _troubled(self, error: ModelError, failure: Failure) -> Trouble:
        """What has gone wrong so far, this failure included."""
        run, fitted = self.run, cast("Fitted", self.fitted)
        asked = fitted.tokens + fitted.max_output
        if self.trouble is None:
            # Seeded, so that a test or a repetition waits alike; what was waited is in the event.
            self.trouble = Trouble(fitted.window, asked, jitter=random.Random(f"{run.journal.run_id}:{run.step}"))  # noqa: S311
        trouble = self.trouble
        trouble.window, trouble.asked = fitted.window, asked
        trouble.transient = not (isinstance(error, OfAProgram) and failure.kind is FailureKind.ServerError)
        trouble.seconds_left = _seconds_left()
        trouble.counts[failure.kind] += 1
        return trouble

    def _prepared(self, decision: Decision, failure: Failure, backend: Backend, trouble: Trouble) -> Decision:
        """Let what was learned hold for everyone who asks this server, and say what is done."""
        if failure.kind is FailureKind.ContextOverflow and failure.limit is not None and failure.limit < trouble.window:
            backend.learn(failure.limit)
        if decision.act == "shrink":
            window = cast("int", decision.window)
            self.run.room = min(self.run.room, window)
            self.tried.append(f"compacted to {window:,} tokens and asked again")
        elif decision.act == "halve":
            window, flight = backend.halve(trouble.window)
            decision = replace(decision, window=window)
            self.tried.append(
                f"halved the window to {window:,} tokens and what is in flight to {flight:,}, "
                f"waited {decision.wait:.1f} s and asked again"
            )
        elif decision.act in ("wait", "retry"):
            self.tried.append(f"waited {decision.wait:.1f} s and asked again")
        return decision

    def _record_failure(self, error: WherryError, failure: Failure | None, decision: Decision | None) -> None:
        more: dict[str, Any] = {"act": "give_up"}
        if failure is not None and decision is not None:
            said = {"limit": failure.limit, "requested": failure.requested, "retry_after": failure.retry_after}
            done = {"window": decision.window, "why": decision.why or None, "wait": round(decision.wait, 3) or None}
            more = {"act": decision.act, "status": failure.status, **said, **done}
            more = {key: value for key, value in more.items() if value is not None}
        run = self.run
        kind = str(failure.kind) if failure is not None else type(error).__name__
        run.journal.record(
            EventType.MODEL_FAILED,
            step=run.step,
            attempt=self.attempt,
            kind=kind,
            message=error.message[:2000],
            **more,
        )

    def _turned_elsewhere(self, call: Call, model: Model) -> bool:
        """Whether another model is asked from now on."""
        error = self.error
        if error is None or not call.turn_elsewhere(error.kind if isinstance(error, ModelError) else ""):
            return False
        other = target(self.run.model, call)
        said = f"{model.profile.name} failed ({kind_of(error)}); {other.profile.name} is asked instead"
        self.tried.append(f"asked {other.profile.name} instead")
        self.run.warn(said, "see the `model.failed` events for the reason")
        self.trouble = None
        return True

    async def _healthy(self, model: Model, trouble: Trouble, seconds: float) -> bool:
        """Wait until the server is up again; whether it came up in time. One that cannot be asked counts as up."""
        ask = getattr(model, "healthy", None)
        if ask is None:
            return True
        began = self.policy.clock()
        pause = self.policy.first_wait
        while not await ask():
            left = seconds - (self.policy.clock() - began)
            if left < 0.001:  # not 0: a clock may never get past the last rounding error
                return False
            await self.policy.sleep(min(pause, left))
            trouble.waited += min(pause, left)
            pause = min(pause * 1.5, 5.0)
        return True

    def _health_seconds(self, error: ModelError, backend: Backend) -> float:
        """How long the server is given. One that nobody has met yet may be a wrong address: that is told soon."""
        never_there = (
            not backend.met and error.kind == FailureKind.ConnectionLost and "no server answers" in error.message
        )
        seconds = self.policy.first_contact if never_there else self.policy.health
        left = _seconds_left()
        return seconds if left is None else max(0.0, min(seconds, left))

    def _explained(self, error: WherryError) -> WherryError:
        fitted = self.fitted
        return explained(
            error,
            step=self.run.step,
            attempts=self.attempt,
            tried=self.tried,
            window=None if fitted is None else fitted.window,
            sizes=None if fitted is None else self.run.window.sizes(fitted.max_output),
        )


def _seconds_left() -> float | None:
    """Of the time limits that hold here, the run's own and those around it."""
    deadline = anyio.current_effective_deadline()
    return None if math.isinf(deadline) else deadline - anyio.current_time()


async def _profile(model: Model) -> ModelProfile:
    return await model.prepare() if isinstance(model, Prepared) else model.profile
