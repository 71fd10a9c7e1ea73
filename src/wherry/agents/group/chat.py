"""A conversation of several agents, which is an agent itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias, TypedDict, Unpack, cast

from wherry.agents.agent import Agent
from wherry.agents.group.human import Human, Unasked
from wherry.agents.group.speakers import SpeakerFunction
from wherry.agents.group.state import ASKER, NOTES
from wherry.agents.group.stops import Condition, Stop, condition, named
from wherry.agents.group.transitions import Following, Forbidden, Transitions
from wherry.agents.loop import Turn
from wherry.agents.result import RunStatus
from wherry.agents.run import Order, Run
from wherry.context import ContextBudget, Knowledge
from wherry.context.transcript import Transcript
from wherry.errors import ConfigurationError
from wherry.messages import ToolSchema
from wherry.models import Model, ModelProfile, ModelReply
from wherry.policy import Limits, Policy
from wherry.store import Store
from wherry.tools import Tool

Speaker: TypeAlias = "Literal['auto', 'round_robin', 'random'] | SpeakerFunction"
_WAYS = ("auto", "round_robin", "random")
_NOT_FOR_GROUPS = {
    "managed_agents": "they are the agents of the group",
    "max_steps": "say max_rounds",
    "planning_interval": "give it to the agents of the group",
    "output_type": "give it to the agent that answers",
    "final_answer_checks": "give them to the agent that answers, or stop by a function of the chat",
}


class GroupOptions(TypedDict, total=False):
    """What a group takes as any agent does; `Agent` says what each means."""

    name: str | None
    description: str | None
    instructions: str | Knowledge | None
    hooks: Iterable[object]
    context: ContextBudget | None
    limits: Limits | None
    policy: Policy | None
    store: Store | str | None


class GroupChat(Agent):
    """Several agents that talk with one another about a task, by one transcript that each sees within its own window.

    It is an agent: it can be run, streamed, limited and gone on with, managed by another agent, and take part in
    another group. Each turn of a participant is a run of its own below the group's.

    A round is one choice of who speaks next, and what they say. Mostly that is one speaker.

    Args:
        agents: Who takes part, each with a name of its own. An agent without a model uses the group's.
        speaker: Who speaks next. `"auto"`: the group's model chooses, by names, descriptions and the newest messages;
            `"round_robin"`: one after the other; `"random"`: by chance, alike for the same run id; or a function of the
            chat that gives a name, an agent, several of them, or None for the end.
        max_rounds: The chat ends after so many at the latest. Without `stop` that is its usual end; with one it is
            `RunStatus.MAX_STEPS`. `run(..., max_steps=n)` stands in for it.
        transitions: Who may speak after whom: `{"ann": ["bo"]}`, or `Forbidden({"ann": ["ann"]})`.
        stop: When it is over: `Mention("DONE")`, `Said("editor") | MaxTokens(50_000)`, or a function of the chat.
        parallel: How many may speak at once. Those do who cannot follow one another by the transitions; they see the
            same messages, and what they say is put down in the order of the choice.
        turn_seconds: The most that one turn may take; then it counts as nothing said.
        on_error: What a participant's failure means. `"skip"`: it is noted in the transcript, and the chat goes on,
            until everybody's newest turn has failed; `"raise"`: the run ends with it. Limits that are reached, a
            broken store and a wrong setup always end the run.
        output: `"last"`: the output is what was said last; `"summary"`: what the group's model makes of the chat.
        model: The group's, for `"auto"`, `"summary"`, and agents without one; None: that of the first agent with one.
        options: `name`, `description`, `instructions` (for the choice of speakers), `context`, `limits`, `policy`,
            `store`, `hooks`: as of any agent.

    Raises:
        ConfigurationError: names, transitions or numbers that cannot be; the message says which.
    """

    kind: ClassVar[str] = "group"

    def __init__(
        self,
        agents: Iterable[Agent],
        *,
        speaker: Speaker = "auto",
        max_rounds: int = 10,
        transitions: Following | Forbidden | None = None,
        stop: Condition | None = None,
        parallel: int = 1,
        turn_seconds: float | None = None,
        on_error: Literal["skip", "raise"] = "skip",
        output: Literal["last", "summary"] = "last",
        model: Model | str | None = None,
        **options: Unpack[GroupOptions],
    ) -> None:
        if wrong := sorted(options.keys() - GroupOptions.__optional_keys__):
            why = f": {_NOT_FOR_GROUPS[wrong[0]]}" if wrong[0] in _NOT_FOR_GROUPS else ""
            raise TypeError(f"GroupChat() got an unexpected keyword argument {wrong[0]!r}{why}")
        _check_number("max_rounds", max_rounds)
        _check_number("parallel", parallel)
        super().__init__((), model, max_steps=max_rounds, **options)
        self.participants: dict[str, Agent] = _participants(agents)
        """By name, in the order in which they were given."""
        self.transitions = Transitions(list(self.participants), transitions)
        self.stop: Stop | None = None if stop is None else condition(stop)
        unknown = named(self.stop) - self.participants.keys() if self.stop is not None else set[str]()
        if unknown:
            raise ConfigurationError(f"stop speaks of {min(unknown)!r}, who is not in the group")
        if speaker not in _WAYS and not callable(speaker):
            raise ConfigurationError(
                f"speaker is {speaker!r}", hint=f"give one of {', '.join(map(repr, _WAYS))}, or a function of the chat"
            )
        if parallel > 1 and not self.transitions.given and not callable(speaker):
            raise ConfigurationError(
                f"parallel is {parallel}, and everybody may answer everybody, so that nobody can speak at once",
                hint="say by `transitions` who may follow whom",
            )
        _check_one_of("on_error", on_error, "skip", "raise")
        _check_one_of("output", output, "last", "summary")
        if turn_seconds is not None and not _is_time(turn_seconds):
            raise ConfigurationError(f"turn_seconds is {turn_seconds!r}", hint="give seconds above 0, or None")
        if isinstance(self.instructions, Knowledge):
            raise ConfigurationError("a group's instructions are a text", hint="give the Knowledge to its agents")
        self.speaker: Speaker = speaker
        self.parallel = parallel
        self.turn_seconds = turn_seconds
        self.on_error = on_error
        self.output = output

    def transcript(self, run_id: str | None = None, *, session: str | None = None) -> Transcript:
        """What was said, in this group's store: in one run, or in a session."""
        if (run_id is None) == (session is None):
            raise TypeError("transcript() takes a run's id or a session")
        return transcript_of(self, run_id or "", session)

    @property
    def team(self) -> Mapping[str, Agent]:
        return self.participants

    def resolved_model(self) -> Model:
        if self.model is None and (found := _model_of(self.participants.values())) is not None:
            return found
        return super().resolved_model()

    def hidden_tools(self) -> Sequence[Tool]:
        return ()

    def prompt(self, schemas: Sequence[ToolSchema], profile: ModelProfile, instructions: str) -> str:
        return ""

    def native(self, schemas: Sequence[ToolSchema], window: int) -> Sequence[ToolSchema]:
        return ()

    def check_order(self, order: Order) -> None:
        if order.files:
            raise ConfigurationError(
                "a GroupChat has no working folder to copy `files` to", hint="give their contents as `inputs`"
            )

    async def act(self, run: Run, reply: ModelReply) -> Turn:
        return Turn(answered=True, answer=reply.text)

    async def play(self, run: Run) -> tuple[RunStatus, Any]:
        from wherry.agents.group.playing import Playing

        return await Playing(run, self).to_its_end()


def transcript_of(group: GroupChat, run_id: str, session: str | None) -> Transcript:
    return Transcript(group.store, f"group/{run_id}" if session is None else f"group/session/{session}")


def _participants(agents: object) -> dict[str, Agent]:
    if isinstance(agents, Agent) or not isinstance(agents, Iterable):
        raise ConfigurationError(f"the agents of the group are {agents!r}", hint="give a list: GroupChat([ann, bo])")
    found: dict[str, Agent] = {}
    for agent in cast("Iterable[object]", agents):
        if not isinstance(agent, Agent):
            raise ConfigurationError(f"the group holds {agent!r}, which is no agent")
        if not agent.name:
            raise ConfigurationError(
                f"an agent of the group ({type(agent).__name__}) has no name", hint="give it name=: the others see it"
            )
        if agent.name in (ASKER, NOTES):
            raise ConfigurationError(f"no participant can be named {agent.name!r}: that is whose words are not theirs")
        if agent.name in found:
            raise ConfigurationError(f"two participants are named {agent.name!r}", hint="rename one of them")
        found[agent.name] = agent
    if not found:
        raise ConfigurationError("the group has no agents", hint="give a list: GroupChat([ann, bo])")
    return found


def _model_of(agents: Iterable[Agent]) -> Model | None:
    """That of the first agent that has one. Of none where only people take part: they need none."""
    people = True
    for agent in agents:
        if isinstance(agent, Human):
            continue
        people = False
        if agent.model is not None:
            return agent.resolved_model()
        if isinstance(agent, GroupChat) and (found := _model_of(agent.participants.values())) is not None:
            return found
    return Unasked() if people else None


def _check_number(name: str, number: object) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ConfigurationError(f"{name} is {number!r}", hint="give a whole number from 1")


def _check_one_of(name: str, value: object, *allowed: str) -> None:
    if value not in allowed:
        raise ConfigurationError(f"{name} is {value!r}", hint=f"give {' or '.join(map(repr, allowed))}")


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
