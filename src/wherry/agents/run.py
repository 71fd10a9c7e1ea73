"""The state of one run of one agent. Agents hold configuration; whatever a run changes is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from wherry.agents.answers import AnswerRules
from wherry.agents.asking import ask
from wherry.agents.governing import Governed, look_again
from wherry.agents.hooks import RunHooks
from wherry.agents.result import ResultFile
from wherry.agents.toolbox import Toolbox
from wherry.context import ContextBudget, ContextWindow
from wherry.context.facts import Summarize
from wherry.errors import WherryError
from wherry.journal import Event, EventType, RunJournal
from wherry.messages import JSON, Message, ToolSchema, canonical, parse
from wherry.models import Model, ModelProfile, ModelReply
from wherry.policy import Account, Limits
from wherry.policy.taint import Taint
from wherry.redaction import redact_json
from wherry.sandbox import Session
from wherry.tools import ToolContext, as_json

if TYPE_CHECKING:
    from wherry.agents.agent import Agent
    from wherry.agents.past import Past, PastCall
    from wherry.policy.approvals import Approval
    from wherry.store import Store


class Conversation(Protocol):
    """What an agent is shown of a conversation of several, in which a run of it is one turn."""

    def setting(self, window: int) -> str:
        """What the system prompt says of it, behind the agent's own instructions; `window` is the model's, in tokens.

        The same text for every turn, so that a prompt cache stays warm.
        """
        ...

    async def state(self, run: Unopened) -> JSON:
        """What was said so far, as the state that the run's window goes on from."""
        ...


@dataclass(frozen=True, slots=True)
class Unopened:
    """What is known of a run before it has a window."""

    journal: RunJournal
    profile: ModelProfile
    budget: ContextBudget
    system: Message
    task: Message
    tools: Sequence[ToolSchema]
    summarize: Summarize | None
    """Asks a model for a summary on behalf of this run."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a run is asked to do."""

    task: str
    _: KW_ONLY
    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any])  # Any: the user's own values
    files: Sequence[Path] = ()
    session: str | None = None
    max_steps: int = 20
    limits: Limits = field(default_factory=Limits)
    conversation: Conversation | None = None
    """That of which the run is a turn."""
    said_by: str | None = None
    """Whose words the task is, where several talk."""


class SuspendedError(WherryError):
    """A call waits for a person's word, which is among the run's `pending`."""

    def __init__(self) -> None:
        super().__init__("the call waits for a person's word")


@dataclass(slots=True)
class Run:
    """One run under way."""

    agent: Agent
    order: Order
    journal: RunJournal
    store: Store
    model: Model
    profile: ModelProfile
    window: ContextWindow
    toolbox: Toolbox
    rules: AnswerRules
    account: Account
    context: ToolContext
    taint: Taint = field(default_factory=Taint)
    """Whether untrusted content came into the tree of runs, which shares it."""
    step: int = 0
    requested: int = 0
    """The last step whose request was on record when the run was resumed."""
    calls: int = 0
    schemas: Sequence[ToolSchema] = ()
    """The tool schemas that the last request carried."""
    room: int = 0
    """The window in tokens that requests may take, as far as the server allows; 0 before the first."""
    spoken: bool = False
    """Whether the answer is the model's last message as it stands, and so in the conversation already."""
    session_revision: int = 0
    """How often the session had been saved when this run began."""
    warnings: list[str] = field(default_factory=list[str])
    sandbox: Session | None = None
    """The code agent's session, once a snippet has run."""
    files: dict[str, ResultFile] = field(default_factory=dict[str, ResultFile])
    """By name: what snippets left in the work folder."""
    last_code: str = ""
    """The snippet that ran last, by which one that runs again unchanged is seen."""
    reason: str = ""
    """Why it ended where it did, in words, if there is something to say."""
    fatal: WherryError | None = None
    """What a tool or a managed agent ran into that no model can mend; raised as soon as the turn is over."""
    hooks: RunHooks | None = None
    """None where nobody wants to see or change anything."""
    rewritten: bool = False
    """Whether a hook changed the messages of the last request."""
    past: Sequence[Event] = ()
    """The run's events from before it was resumed."""
    resumed: Past | None = None
    """The step in which the run was interrupted, until that is done; None in a run that never was."""
    ran_code: bool = False
    """Whether snippets ran in a sandbox that is gone."""
    above: Sequence[Agent] = ()
    """The agents whose runs asked for this one, the nearest first: their policies hold for it too."""
    governed: Governed | None = None
    """What was seen of the agent last."""
    pending: list[Approval] = field(default_factory=list["Approval"])
    """What waits for a person's word: the run ends as soon as the turn is over, and goes on there later."""

    def unacted(self) -> ModelReply | None:
        """The reply of a step that was interrupted, once: its acts are to be brought to their end.

        Raises:
            StoreError: it is not in the store.
        """
        if self.resumed is None:
            return None
        reply, self.resumed.reply = self.resumed.open_reply(self.store), None
        if reply is None:
            self.resumed = None
        return reply

    def past_call(self, call: str) -> PastCall | None:
        """What is recorded of a call of the step that was interrupted."""
        return None if self.resumed is None else self.resumed.calls.get(call)

    async def ask(self, *, with_tools: bool = True, aside: str = "") -> ModelReply:
        """One question to the model; its reply is appended to the window and to the journal.

        Args:
            with_tools: whether the model is offered any.
            aside: what is asked for, if the reply makes no step: a run that is resumed asks for it again.

        Raises:
            ContextBudgetError: the pinned parts do not fit; nothing was sent.
            ModelError: the server failed, and recovering from it did as well.
            LimitReached: the question would be one too many.
        """
        return await ask(self, with_tools=with_tools, aside=aside)

    async def tell(self, message: Message) -> None:
        """Append what the model is to see next."""
        await self.window.append(message)

    def warn(self, message: str, hint: str = "") -> None:
        self.warnings.append(message)
        self.journal.record(EventType.WARNING, message=message, hint=hint)

    def next_call(self, name: str, arguments: Mapping[str, Any]) -> str:  # Any: what a snippet gave
        """A name for a tool call made from code: unique in the run and the same when the run is repeated."""
        self.calls += 1
        if self.resumed is None:
            return f"{self.step}.{self.calls}"
        written = parse(redact_json(canonical(as_json(arguments))))
        return self.resumed.claim(self.calls, name, written)

    def refresh_toolbox(self) -> None:
        """Read the agent's tools anew, and record what has changed."""
        if self.toolbox.refresh():
            look_again(self)
