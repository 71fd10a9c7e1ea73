"""What an agent can do at this step: its tools and its managed agents, read anew each time.

`agent.tools` and `agent.managed_agents` are plain dicts that users change while a run is under way. Reading them costs
a comparison; schemas, stubs and digests are made again only when something has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

from wherry.context import Knowledge, escape
from wherry.context.recall import recall
from wherry.errors import ConfigurationError
from wherry.messages import Message, ToolSchema, canonical, digest
from wherry.tools import Tool, check_name, to_tool
from wherry.tools.builtin import read_artifact, search_artifact
from wherry.tools.builtin.final_answer import NAME as FINAL_ANSWER
from wherry.tools.intent import with_intent
from wherry.tools.source import mark

if TYPE_CHECKING:
    from wherry.agents.agent import Agent

Prompt = Callable[[Sequence[ToolSchema], str], str]
"""`prompt(schemas, instructions)`: the system prompt."""

READERS: tuple[Tool, ...] = (read_artifact, search_artifact, recall)
"""By these an agent reads what was too large to be shown, or was folded away. They can always be called."""
SMALL_WINDOW = 8_192
"""Tokens. Up to here `search_artifact` is not announced: `recall` finds what stands in artifacts too, and the models
that run in such windows mostly are small ones. The embedded 1.5B asked it, and not the search that it was given, for
the population of a country (November 2026).
"""


def announced(window: int) -> tuple[Tool, ...]:
    """The readers whose schemas go into a request.

    The same ones from the first request of a run to its last, whether anything was set aside yet or not. A schema that
    came in later would change the beginning of the prompt, where every chat template has the tools: the prompt cache
    of everything behind it would be lost in mid-run, and a local server would read it all again (a minute for 4,000
    tokens on two cores). From the start they cost some 130 tokens each, once.
    """
    return tuple(tool for tool in READERS if window > SMALL_WINDOW or tool is not search_artifact)


def own_names(instructions: str | Knowledge | None) -> frozenset[str]:
    """Names that are functions for a snippet whatever tools the user gives: no input can have them."""
    found = {tool.name for tool in READERS} | {FINAL_ANSWER}
    return frozenset(found | {instructions.search.name} if isinstance(instructions, Knowledge) else found)


class Toolbox:
    """The tools of one run. `refresh()` before each step."""

    def __init__(
        self,
        agent: Agent,
        *,
        prompt: Prompt,
        brief: Callable[[str | Knowledge | None], str],
        delegate: Callable[[Agent], Tool],
        hidden: Sequence[Tool],
        native: Callable[[Sequence[ToolSchema]], Sequence[ToolSchema]],
        control_tokens: tuple[str, ...] = (),
        above: Sequence[Agent] = (),
    ) -> None:
        self._agent = agent
        self._governing = (agent, *above)
        self._prompt = prompt
        self._brief = brief
        self._delegate = delegate
        self._hidden = {tool.name: tool for tool in (*READERS, *hidden)}
        self._native_of = native
        self._control_tokens = control_tokens
        self._seen: tuple[object, ...] | None = None
        self._made: dict[tuple[int, bool], tuple[object, Tool]] = {}
        self.before: Mapping[str, str] | None = None
        """Digest by tool name before the last change; None before the first reading."""
        self.digests: Mapping[str, str] = {}
        self.tools: Mapping[str, Tool] = {}
        """By the name that the model calls it by."""
        self.agents: frozenset[str] = frozenset()
        """The names among `tools` that are managed agents."""
        self.native: tuple[ToolSchema, ...] = ()
        """What goes into a request's `tools`."""
        self.digest = ""
        self.system = Message("system", "")

    def refresh(self) -> bool:
        """Read the agent's dicts; whether anything differs from the last reading.

        Raises:
            ConfigurationError: something in them is no tool, or two things have one name.
        """
        tools, agents = self._agent.tools, self._agent.managed_agents
        instructions = self._agent.instructions
        policies = [one.policy for one in self._governing]
        seen = (*tools.items(), *map(mark, tools.values()), None, *agents.items(), instructions, *policies)
        if seen == self._seen:
            return False
        intent = any(policy is not None and policy.intent for policy in policies)
        visible: dict[str, Tool] = {}
        for name, item in tools.items():
            visible[check_name(name, "a tool")] = self._made_once(item, lambda item=item: to_tool(item), intent)
        for name, agent in agents.items():
            if name in visible:
                raise ConfigurationError(
                    f"{name!r} names a tool and a managed agent", hint="give one of them another name"
                )
            visible[check_name(name, "a managed agent")] = self._made_once(
                agent, lambda agent=agent: self._delegate(agent), intent
            )
        if isinstance(instructions, Knowledge):
            visible.setdefault(instructions.search.name, instructions.search)
        schemas = [_named(tool.schema, name) for name, tool in visible.items()]
        self.before = self.digests if self._seen is not None else None
        self.digests = {schema.name: digest(canonical(schema.to_json())) for schema in schemas}
        self.tools = {**self._hidden, **visible}
        self.agents = frozenset(agents)
        # Many descriptions are others' texts: a server's tools, a managed agent that a user named.
        self.native = tuple(self._safe(schema) for schema in self._native_of(schemas))
        self.digest = digest(canonical(self.digests))
        shown = [self._safe(schema) for schema in schemas]
        self.system = Message("system", self._prompt(shown, self._brief(instructions)))
        self._seen = seen
        return True

    def bare_prompt(self, instructions: str) -> str:
        """The system prompt without tools, with these instructions: what changes when it is written otherwise."""
        return self._prompt((), instructions)

    def _safe(self, schema: ToolSchema) -> ToolSchema:
        """As it may stand in a request. Who gives what is from outside often writes the tool's description too."""
        tool = self.tools.get(schema.name)
        outside = tool is not None and tool.untrusted
        return _safe(schema, self._control_tokens, outside)

    def _made_once(self, item: object, make: Callable[[], Tool], intent: bool) -> Tool:
        """The same object gives the same tool: a schema is built once, however often the dict changes."""
        key = id(item), intent
        known = self._made.get(key)
        if known is None or known[0] is not item:
            known = self._made[key] = (item, with_intent(make()) if intent else make())
        return known[1]


_SAFE: dict[tuple[str, tuple[str, ...], bool], tuple[ToolSchema | None]] = {}
"""By digest, what is shown in place of a schema; None: itself. A thousand runs show the same ones."""
_MOST_SAFE = 1_024


def _safe(schema: ToolSchema, control_tokens: tuple[str, ...], outside: bool) -> ToolSchema:
    key = digest(canonical(schema.to_json())), control_tokens, outside
    known = _SAFE.get(key)
    if known is None:
        if len(_SAFE) >= _MOST_SAFE:
            _SAFE.clear()
        made = _escaped(schema, partial(_clean, control_tokens=control_tokens, outside=outside))
        known = _SAFE[key] = (None if made is schema else made,)
    return known[0] or schema


def _named(schema: ToolSchema, name: str) -> ToolSchema:
    if schema.name == name:
        return schema
    return ToolSchema(name, schema.description, schema.parameters, schema.returns)


def _clean(text: str, *, control_tokens: tuple[str, ...], outside: bool) -> str:
    made = text
    if outside:
        from wherry.context.sanitising import sanitised

        made = sanitised(text)
    made = escape(made, control_tokens)
    return text if made == text else made


def _escaped(schema: ToolSchema, clean: Callable[[str], str]) -> ToolSchema:
    """The schema with no control token and none of wherry's tags in any of its texts; itself if it has none.

    A property or a value of an enum that holds one is shown with it broken, and cannot be used: better than obeyed.
    """
    before = {"description": schema.description, "parameters": schema.parameters, "returns": schema.returns}
    after = {key: _escaped_json(value, clean) for key, value in before.items()}
    if all(after[key] is value for key, value in before.items()):
        return schema  # the same object: its tokens are counted once
    return replace(schema, **after)  # pyright: ignore[reportArgumentType] - each is of the type that it was


def _escaped_json(value: object, clean: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        known = cast("Mapping[str, object]", value)
        made = {clean(key): _escaped_json(item, clean) for key, item in known.items()}
        same = made.keys() == known.keys() and all(made[key] is item for key, item in known.items())
        return known if same else made
    if isinstance(value, list | tuple):
        items = cast("Sequence[object]", value)
        escaped = [_escaped_json(item, clean) for item in items]
        return items if all(new is old for new, old in zip(escaped, items, strict=True)) else escaped
    return value
