"""Prompts that a program brings along or adds to, as Jinja templates.

`prompt_templates["system_prompt"]` is `{{ rules }}` where nothing else is said: wherry's own system prompt, which is
short and made for the sandbox. A program may put text around it, or say something else altogether.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, TypedDict, cast

from wherry.errors import MissingExtra

RULES = "{{ rules }}"
"""Stands for wherry's own system prompt."""

_PLAIN = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")
"""A template with nothing but these needs no Jinja."""


class PlanningPromptTemplate(TypedDict):
    """Prompts of planning."""

    initial_plan: str
    update_plan_pre_messages: str
    update_plan_post_messages: str


class ManagedAgentPromptTemplate(TypedDict):
    """What a managed agent is told, and what its manager is told of its answer."""

    task: str
    report: str


class FinalAnswerPromptTemplate(TypedDict):
    """What is said around the conversation when the steps have run out."""

    pre_messages: str
    post_messages: str


class PromptTemplates(TypedDict):
    """All prompts of an agent."""

    system_prompt: str
    planning: PlanningPromptTemplate
    managed_agent: ManagedAgentPromptTemplate
    final_answer: FinalAnswerPromptTemplate


EMPTY_PROMPT_TEMPLATES = PromptTemplates(
    system_prompt="",
    planning=PlanningPromptTemplate(initial_plan="", update_plan_pre_messages="", update_plan_post_messages=""),
    managed_agent=ManagedAgentPromptTemplate(task="", report=""),
    final_answer=FinalAnswerPromptTemplate(pre_messages="", post_messages=""),
)

_DEFAULT = PromptTemplates(
    system_prompt=RULES,
    planning=PlanningPromptTemplate(initial_plan="", update_plan_pre_messages="", update_plan_post_messages=""),
    managed_agent=ManagedAgentPromptTemplate(
        task="{{ task }}", report="Here is the final answer from your managed agent '{{ name }}':\n{{ final_answer }}"
    ),
    final_answer=FinalAnswerPromptTemplate(
        pre_messages="The steps have run out. Answer the task with what is known.",
        post_messages="The task was:\n{{ task }}\nGive your answer now.",
    ),
)


def default_templates() -> PromptTemplates:
    return deepcopy(_DEFAULT)


def checked(templates: Mapping[str, Any]) -> PromptTemplates:
    """Templates of a program's own.

    Raises:
        ValueError: some are missing; the message says which.
    """
    for key, value in cast("Mapping[str, object]", EMPTY_PROMPT_TEMPLATES).items():
        if key not in templates:
            raise ValueError(f"Some prompt templates are missing from your custom `prompt_templates`: {key}")
        keys: Mapping[str, str] = cast("Mapping[str, str]", value) if isinstance(value, dict) else dict[str, str]()
        if missing := sorted(keys.keys() - set(templates[key] if keys else ())):
            raise ValueError(
                f"Some prompt templates are missing from your custom `prompt_templates`: {missing} under {key}"
            )
    return templates  # pyright: ignore[reportReturnType] - its keys have been looked at


def populate_template(template: str, variables: Mapping[str, Any]) -> str:
    """A template filled in.

    Raises:
        MissingExtra: it needs Jinja, which is not installed.
        ValueError: it is malformed, or names what there is not.
    """
    if "{%" not in template and "{#" not in template and template.count("{{") == len(_PLAIN.findall(template)):

        def value(found: re.Match[str]) -> str:
            if found[1] not in variables:
                raise ValueError(f"Error during jinja template rendering: UndefinedError: {found[1]!r} is undefined")
            return str(variables[found[1]])

        return _PLAIN.sub(value, template)
    try:
        from jinja2 import StrictUndefined, TemplateError
        from jinja2.sandbox import SandboxedEnvironment
    except ImportError as error:
        raise MissingExtra("a prompt template of one's own", "smolagents") from error
    try:
        return SandboxedEnvironment(undefined=StrictUndefined).from_string(template).render(**variables)
    except TemplateError as error:
        raise ValueError(f"Error during jinja template rendering: {type(error).__name__}: {error}") from error
