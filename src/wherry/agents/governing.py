"""Changes of what an agent is made of, seen at the next step and between its runs, recorded with a diff.

Nothing is compared while the agent's own dicts, texts and functions are the same objects as before: see `Toolbox`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wherry.agents.toolbox import READERS
from wherry.context import Knowledge
from wherry.journal import EventType
from wherry.policy import Policy
from wherry.policy.versions import (
    TOOL,
    Version,
    Versions,
    approved_tools,
    compare,
    keep_seen,
    last_seen,
    take_first_tools,
    version_of_text,
    version_of_tool,
)

if TYPE_CHECKING:
    from wherry.agents.run import Run

_EVENTS = {
    "tools": EventType.TOOLS_CHANGED,
    "prompt": EventType.PROMPT_CHANGED,
    "model": EventType.MODEL_CHANGED,
    "policy": EventType.POLICY_CHANGED,
}
_OWN = frozenset(tool.name for tool in READERS)


@dataclass(slots=True)
class Governed:
    """What was seen of a run's agent last."""

    versions: Versions
    kept: bool
    """Whether that is kept in the store, for the agent's next run."""
    approved: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """Tools with the digests of their schemas of which this run knows that they may be called."""


def policies(run: Run) -> Iterator[Policy]:
    """The run's own policy and those of the agents above it."""
    for agent in (run.agent, *run.above):
        if agent.policy is not None:
            yield agent.policy


def begin(run: Run) -> None:
    """Look at an agent as its run begins or goes on, and record what is different from its last run.

    Agents are known by their names. One that has neither a name nor a policy is not compared: its name is everybody's.
    """
    agent, store, name = run.agent, run.store, run.context.agent
    versions = _look(run)
    kept = agent.name is not None or agent.policy is not None
    run.governed = Governed(versions, kept)
    if kept:
        before = last_seen(store, name)
        if before:
            _record(run, before, versions)
        keep_seen(store, name, before, versions, run_id=run.journal.run_id)
    if any(policy.new_tools != "allow" for policy in policies(run)) and approved_tools(store, name) is None:
        take_first_tools(store, name, versions)


def look_again(run: Run) -> None:
    """Record what changed since the last look; called when something did."""
    governed = run.governed
    if governed is None:
        return
    before, governed.versions = governed.versions, _look(run)
    _record(run, before, governed.versions)
    if governed.kept:
        keep_seen(run.store, run.context.agent, before, governed.versions, run_id=run.journal.run_id)


def _record(run: Run, before: Versions, after: Versions) -> None:
    for change in compare(before, after):
        run.journal.record(_EVENTS[change.what], step=run.step, **change.payload)


def _look(run: Run) -> Versions:
    agent, toolbox = run.agent, run.toolbox
    found: dict[str, Version] = {
        f"{TOOL}{name}": version_of_tool(name, tool, code=name not in toolbox.agents)
        for name, tool in toolbox.tools.items()
        if name in toolbox.digests and name not in _OWN
    }
    instructions = agent.instructions
    if isinstance(instructions, Knowledge):
        said = f"{instructions.pinned}\n\n[knowledge: {len(instructions.sections)} sections]"
    else:
        said = instructions or ""
    found["prompt"] = version_of_text(toolbox.bare_prompt(said))
    found["model"] = version_of_text(f"{run.profile.name} (window {run.profile.window})")
    policy = agent.policy
    if policy is not None and (written := policy.to_json()):
        found["policy"] = version_of_text(_lines(written))
    return found


def _lines(value: object) -> str:
    import json

    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
