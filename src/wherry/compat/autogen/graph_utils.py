"""The names that programs import from `autogen.graph_utils`: who may speak after whom."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast  # Any: agents of programs' own classes

from wherry.compat.autogen.core import Core

logger = logging.getLogger(__name__)


def has_self_loops(allowed_speaker_transitions: Mapping[Any, Sequence[Any]]) -> bool:
    """Whether anybody may speak twice in a row."""
    return any(agent in others for agent, others in allowed_speaker_transitions.items())


def check_graph_validity(allowed_speaker_transitions_dict: Any, agents: Sequence[Any]) -> None:
    """Look through who may speak after whom; what is odd, but works, is a warning in the log.

    Raises:
        ValueError: it is no dict of lists of agents, or somebody who is not in the group has an entry.
    """
    given: object = allowed_speaker_transitions_dict
    if not isinstance(given, Mapping):
        raise ValueError("allowed_speaker_transitions_dict must be a dictionary.")  # noqa: TRY004 - programs catch it
    edges = cast("Mapping[Any, Sequence[Any]]", given)
    if not all(isinstance(cast("object", others), list) for others in edges.values()):
        raise ValueError("allowed_speaker_transitions_dict must be a dictionary with lists as values.")
    if unknown := [agent for agent in edges if agent not in agents]:
        raise ValueError(f"allowed_speaker_transitions_dict has keys not in agents: {unknown[0]!r}")
    if not all(isinstance(one, Core) for others in edges.values() for one in others):
        raise ValueError("allowed_speaker_transitions_dict has values that are not lists of Agents.")
    heard = [one for others in edges.values() for one in others]
    named = [*heard, *(agent for agent, others in edges.items() if others)]
    if isolated := [agent.name for agent in agents if agent not in named]:
        logger.warning("There are isolated agents, whom nobody may follow and who follow nobody: %s", isolated)
    if odd := [one.name for one in (*agents, *heard) if (one in agents) != (one in named)]:
        logger.warning("The agents in allowed_speaker_transitions do not match agents: %s", odd)
    for agent, others in edges.items():
        if twice := sorted({one.name for one in others if others.count(one) > 1}):
            logger.warning("Agent %r has duplicate elements: %s", agent.name, twice)


def invert_disallowed_to_allowed(
    disallowed_speaker_transitions_dict: Mapping[Any, Sequence[Any]], agents: Sequence[Any]
) -> dict[Any, list[Any]]:
    """Who may speak after whom, from who may not."""
    barred = disallowed_speaker_transitions_dict
    return {agent: [one for one in agents if one not in barred.get(agent, ())] for agent in agents}
