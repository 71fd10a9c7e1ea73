"""A group chat under way: choose who speaks, let them speak, put down what they said, look whether it is over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import anyio

from wherry.agents.group.chat import GroupChat, transcript_of
from wherry.agents.group.human import Human
from wherry.agents.group.outcome import last_words, summary_of
from wherry.agents.group.seats import Seat
from wherry.agents.group.selecting import ByModel
from wherry.agents.group.speakers import ByChance, ByFunction, Choice, Chooser, InTurn
from wherry.agents.group.state import ASKER, NOTES, Chat
from wherry.agents.group.turns import Spoken, turn
from wherry.agents.result import RunStatus
from wherry.agents.run import Run
from wherry.context import TokenCounter
from wherry.context.door import Door
from wherry.context.transcript import Said
from wherry.errors import StoreConflict
from wherry.journal import EventType
from wherry.messages import Message

LARGEST_SAID = 50_000
"""Characters. What is longer becomes an artifact, and its preview stands in the transcript."""
_PREVIEW_TOKENS = 2_000


class Playing:
    """One run of a group.

    A run that is gone on with begins with the last round that was chosen: a choice is recorded with the number of the
    entry before it, so that all entries of earlier rounds are known to stand in the transcript. What was said in the
    round comes from the runs of its turns, as far as they are done. Nothing is asked or put down twice.
    """

    def __init__(self, run: Run, group: GroupChat) -> None:
        self._run = run
        self._group = group
        self._transcript = transcript_of(group, run.journal.run_id, run.order.session)
        self._transcript.store = run.store
        self._began = time.monotonic()
        self._past = {
            event.payload["round"]: event.payload for event in run.past if event.type is EventType.SPEAKER_CHOSEN
        }
        self._position = 0
        """The last entry that is this run's, or stood there before it."""
        self._stored = len(self._transcript)
        """Entries when the run was opened."""
        task = run.window.task.content
        self._chat = Chat(
            run.journal.run_id, run.order.task, participants=tuple(group.participants), transcript=self._transcript
        )
        about = {name: agent.description or "" for name, agent in group.participants.items()}
        self._seats = {
            name: Seat(agent, {other: about[other] for other in about if other != name}, self._chat, task)
            for name, agent in group.participants.items()
        }
        self._chooser = self._made_chooser(about)
        self._door = Door(
            TokenCounter.for_profile(run.profile),
            control_tokens=run.profile.control_tokens,
            artifacts=run.store.artifacts,
            run_id=run.journal.run_id,
            record=run.journal.record,
        )
        self._quiet = 0
        """Turns in a row in which nothing was said."""
        self._failed: list[Exception] = []
        """Of the turns since somebody's last went well."""
        self._last = ""
        """What was said last, whole."""

    def _made_chooser(self, about: dict[str, str]) -> Chooser:
        speaker = self._group.speaker
        if speaker == "auto":
            instructions = self._group.instructions
            return ByModel(self._run, about, instructions if isinstance(instructions, str) else "")
        if speaker == "round_robin":
            return InTurn()
        return ByChance() if speaker == "random" else ByFunction(speaker)

    async def to_its_end(self) -> tuple[RunStatus, Any]:
        run = self._run
        await self._begin()
        while run.step < run.order.max_steps:
            choice = await self._choice()
            if not choice.speakers:
                return await self._ended(RunStatus.COMPLETED, choice.why)
            run.step += 1
            spoken = await self._round(choice)
            if any(one.waiting for one in spoken):
                return RunStatus.WAITING, None
            await self._put_down(choice, spoken)
            reason = await self._over()
            if reason is not None:
                return await self._ended(RunStatus.COMPLETED, reason)
        said = f"max_rounds={run.order.max_steps} is reached"
        if self._group.stop is None:
            return await self._ended(RunStatus.COMPLETED, said)
        run.journal.record(EventType.LIMIT_REACHED, limit="max_rounds", value=run.order.max_steps)
        return await self._ended(RunStatus.MAX_STEPS, said)

    async def _ended(self, status: RunStatus, reason: str) -> tuple[RunStatus, Any]:
        self._run.reason = reason
        if self._group.output == "summary":
            return status, await summary_of(self._run, self._chat, otherwise=self._last)
        return status, self._last or None

    # ---- one round

    async def _begin(self) -> None:
        """Put the task down, once."""
        run = self._run
        task = run.window.task.content
        if run.order.session is not None:
            # What earlier runs of the session left in the group's own window is bounded like any other.
            await run.window.request(system=run.toolbox.system, tools=())
        if self._past:
            self._go_on()
            return
        self._position = self._stored
        if run.past and self._stored:  # interrupted before the first choice, perhaps behind the task
            (newest,) = self._transcript.read(after=self._stored - 1)
            self._position -= newest.author == ASKER
        await self._append(ASKER, task, safe=True)
        self._chat = replace(self._chat, newest=self._between(self._position - 1, self._position))

    def _go_on(self) -> None:
        """Stand before the round that was chosen last."""
        run, past, last = self._run, self._past, max(self._past)
        self._position = past[last]["position"]
        run.step = last - 1
        before = past.get(last - 1)
        start = self._position - 1 if before is None else before["position"]
        self._chat = replace(
            self._chat,
            round=last - 1,
            speakers=() if before is None else tuple(before["speakers"]),
            newest=self._between(start, self._position),
            usage=run.account.usage,
        )
        self._last = last_words(self._transcript, self._position)
        end = self._position
        for number in range(last - 1, 0, -1):
            start = past[number]["position"]
            spoke = {said.author for said in self._between(start, end)}
            for name in reversed(past[number]["speakers"]):
                if name in spoke:
                    return
                self._quiet += 1
            end = start

    def _between(self, start: int, end: int) -> list[Said]:
        """The entries with positions above `start` and up to `end`."""
        return self._transcript.read(after=start, limit=end - start) if end > start else []

    async def _choice(self) -> Choice:
        """Who speaks next; recorded before they do."""
        run, chat = self._run, self._chat
        number = chat.round + 1
        recorded = self._past.get(number)
        if recorded is not None:
            return Choice(tuple(recorded["speakers"]), recorded["how"], recorded.get("why", ""))
        candidates = self._group.transitions.after(chat.speakers or (ASKER,))
        choice = await self._chosen(candidates)
        more = {"why": choice.why} if choice.why else {}
        run.journal.record(
            EventType.SPEAKER_CHOSEN,
            round=number,
            speakers=[*choice.speakers],
            how=choice.how,
            position=self._position,
            **more,
        )
        return choice

    async def _chosen(self, candidates: Sequence[str]) -> Choice:
        group, chat = self._group, self._chat
        if not candidates:
            return Choice((), "transitions", f"nobody may speak after {' and '.join(chat.speakers)}")
        if callable(group.speaker):
            return await self._chooser.choose(chat, candidates)
        if len(candidates) == 1:
            return Choice((candidates[0],), "only one")
        choice = await self._chooser.choose(chat, candidates)
        if group.parallel == 1:
            return choice
        return replace(choice, speakers=group.transitions.at_once(choice.speakers[0], candidates, group.parallel))

    async def _round(self, choice: Choice) -> list[Spoken]:
        """What each of the speakers says to the same messages, in the order of the choice."""
        number = self._run.step
        for name in choice.speakers:
            self._seats[name].chat = self._chat
        if len(choice.speakers) == 1:
            return [await self._turn(choice.speakers[0], f"{number}.1")]
        spoken: list[Spoken | None] = [None] * len(choice.speakers)
        fatal: list[Exception] = []

        async def one(place: int, name: str, cancel: anyio.CancelScope) -> None:
            try:
                spoken[place] = await self._turn(name, f"{number}.{place + 1}")
            except Exception as error:  # noqa: BLE001 - raised below, by itself and not in a group
                fatal.append(error)
                cancel.cancel()

        async with anyio.create_task_group() as tasks:
            for place, name in enumerate(choice.speakers):
                tasks.start_soon(one, place, name, tasks.cancel_scope)
        if fatal:
            raise fatal[0]
        return [one for one in spoken if one is not None]

    async def _turn(self, name: str, call: str) -> Spoken:
        # An entry behind those of the rounds before: all turns of this one came to their end before the interruption.
        return await turn(self._run, self._group, self._seats[name], call, over=self._stored > self._position)

    async def _put_down(self, choice: Choice, spoken: Sequence[Spoken]) -> None:
        """What was said in a round, in order, and what it means for the chat."""
        start = self._position
        for one in spoken:
            if one.text:
                await self._append(one.name, self._for_all(one))
                self._last = one.text
                self._quiet = 0
            else:
                self._quiet += 1
            if one.note:
                await self._append(NOTES, f"[{one.note}]")
                self._run.warn(one.note)
            if one.error is None:
                self._failed.clear()
            else:
                self._failed.append(one.error)
        if len(self._failed) >= len(self._group.participants):
            raise self._failed[-1]
        self._chat = replace(
            self._chat,
            round=self._run.step,
            speakers=choice.speakers,
            newest=self._between(start, self._position),
            usage=self._run.account.usage,
            seconds=time.monotonic() - self._began,
        )

    def _for_all(self, spoken: Spoken) -> str:
        """What the others are shown. Who has read what comes from outside may repeat what it hides."""
        if not self._run.taint.entered or isinstance(self._group.participants[spoken.name], Human):
            return spoken.text
        from wherry.context.sanitising import sanitised

        return sanitised(spoken.text)

    async def _append(self, author: str, text: str, *, safe: bool = False) -> None:
        """Put an entry down at the next position, unless it stands there from before an interruption."""
        position = self._position + 1
        if position <= self._stored:
            there: Said = self._transcript.read(after=self._position, limit=1)[0]
            if there.author != author:
                raise StoreConflict(
                    f"entry {position} of transcript {self._transcript.name!r} is by {there.author!r}, not {author!r}",
                    hint="somebody else wrote there while this chat was interrupted",
                )
        else:
            if len(text) > LARGEST_SAID and not safe:
                message = Message("user", text)
                await self._door.ready(message, _PREVIEW_TOKENS)
                kept, _ = self._door.shrink(message, _PREVIEW_TOKENS)
                text, safe = kept.content, True
            await self._transcript.append(author, text, expected=position, safe=safe)
        self._position = position

    async def _over(self) -> str | None:
        """Why the chat is over; None while it goes on."""
        if self._quiet >= len(self._group.participants):
            return "nobody had anything to say"
        return None if self._group.stop is None else await self._group.stop.met(self._chat)
