"""Agents with smolagents' names, arguments and memory, over wherry's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar  # Any: answers, tools and models are of any kind

from wherry.compat.smolagents.agent_types import AgentAudio, AgentImage, AgentText
from wherry.compat.smolagents.core import CodeCore, ToolsCore
from wherry.compat.smolagents.errors import (
    AgentError,
    AgentExecutionError,
    AgentGenerationError,
    AgentMaxStepsError,
    AgentParsingError,
    AgentToolCallError,
    AgentToolExecutionError,
)
from wherry.compat.smolagents.functions import function_tool
from wherry.compat.smolagents.imports import BASE_BUILTIN_MODULES, packages
from wherry.compat.smolagents.memory import (
    ToolCall,
)
from wherry.compat.smolagents.multi_step import MultiStepAgent
from wherry.compat.smolagents.outputs import ActionOutput, RunResult, ToolOutput
from wherry.compat.smolagents.templates import (
    EMPTY_PROMPT_TEMPLATES,
    FinalAnswerPromptTemplate,
    ManagedAgentPromptTemplate,
    PlanningPromptTemplate,
    PromptTemplates,
    populate_template,
)
from wherry.compat.smolagents.tools import validate_tool_arguments
from wherry.errors import ConfigurationError, ToolError

__all__ = [
    "AGENT_REGISTRY",
    "EMPTY_PROMPT_TEMPLATES",
    "ActionOutput",
    "AgentAudio",
    "AgentError",
    "AgentExecutionError",
    "AgentGenerationError",
    "AgentImage",
    "AgentMaxStepsError",
    "AgentParsingError",
    "AgentText",
    "AgentToolCallError",
    "AgentToolExecutionError",
    "CodeAgent",
    "FinalAnswerPromptTemplate",
    "ManagedAgentPromptTemplate",
    "MultiStepAgent",
    "PlanningPromptTemplate",
    "PromptTemplates",
    "RunResult",
    "ToolCall",
    "ToolCallingAgent",
    "ToolOutput",
    "populate_template",
]
RESPONSE_FORMAT: Mapping[str, Any] = {
    "type": "object",
    "title": "ThoughtAndCodeAnswer",
    "properties": {
        "thought": {"type": "string", "description": "What is to be done next, and why."},
        "code": {"type": "string", "description": "The Python code that does it."},
    },
    "required": ["thought", "code"],
    "additionalProperties": False,
}


class CodeAgent(MultiStepAgent):
    """An agent whose model writes Python; it runs in wherry's sandbox.

    Args:
        tools: as of `MultiStepAgent`.
        model: as of `MultiStepAgent`.
        prompt_templates: as of `MultiStepAgent`.
        additional_authorized_imports: packages beyond the standard library that snippets may import.
        planning_interval: as of `MultiStepAgent`.
        executor: not taken.
        executor_type: `"local"` is wherry's sandbox; `"docker"` with `executor_kwargs={"image_name": ...}` a container.
            Other names are those of hosted sandboxes: wherry's own takes their place.
        executor_kwargs: see `executor_type`; `additional_functions` are functions of the program by name, which need
            no type hints. Snippets call them as they call tools.
        max_print_outputs_length: characters of output that a step's `observations` have.
        stream_outputs: show replies piece by piece, when `run(stream=True)`.
        use_structured_outputs_internally: ask for `{"thought": ..., "code": ...}` instead of a fenced block.
        code_block_tags: what stands around code; blocks between backticks are always read.
        kwargs: those of `MultiStepAgent`.
    """

    def __init__(
        self,
        tools: Sequence[Any],
        model: Any,
        prompt_templates: Mapping[str, Any] | None = None,
        additional_authorized_imports: Sequence[str] | None = None,
        planning_interval: int | None = None,
        executor: Any = None,
        executor_type: str = "local",
        executor_kwargs: Mapping[str, Any] | None = None,
        max_print_outputs_length: int | None = None,
        stream_outputs: bool = False,
        use_structured_outputs_internally: bool = False,
        code_block_tags: str | tuple[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        if executor is not None:
            raise ConfigurationError("an executor of one's own is not taken", hint="see executor_type")
        if executor_type not in _SANDBOXES:
            raise ValueError(f"Unsupported executor type: {executor_type}")
        if isinstance(code_block_tags, str) and code_block_tags != "markdown":
            raise ValueError("Only 'markdown' is supported for a string argument to `code_block_tags`.")
        functions: Mapping[str, Any] = (executor_kwargs or {}).get("additional_functions") or {}
        self.functions = {name: function_tool(name, function) for name, function in functions.items()}
        self.additional_authorized_imports = list(additional_authorized_imports or ())
        self.authorized_imports = sorted({*BASE_BUILTIN_MODULES, *self.additional_authorized_imports})
        self.executor_type, self.executor_kwargs = executor_type, dict(executor_kwargs or {})
        self.max_print_outputs_length = max_print_outputs_length
        self._structured = use_structured_outputs_internally
        self.code_block_tags = (
            code_block_tags
            if isinstance(code_block_tags, tuple)
            else ("```python", "```")
            if code_block_tags == "markdown"
            else ("<code>", "</code>")
        )
        super().__init__(tools, model, prompt_templates, planning_interval=planning_interval, **kwargs)
        self.stream_outputs = stream_outputs

    def make_core(self) -> CodeCore:
        image = self.executor_kwargs.get("image_name") or self.executor_kwargs.get("image")
        sandbox = f"docker:{image}" if self.executor_type == "docker" and image else _SANDBOXES[self.executor_type]
        return CodeCore(
            self,
            tags=self.code_block_tags,
            structured=self._structured,
            sandbox=sandbox,
            authorized_imports=packages(self.additional_authorized_imports),
            name=self.name,
            description=self.description,
            instructions=self.instructions,
            max_steps=self.max_steps,
            planning_interval=self.planning_interval,
            **self._options,
        )

    @property
    def response_format(self) -> Mapping[str, Any] | None:
        return RESPONSE_FORMAT if self._structured else None

    def prompt_variables(self) -> Mapping[str, Any]:
        anything = "*" in self.additional_authorized_imports
        return {
            "authorized_imports": "You can import from any package you want."
            if anything
            else str(self.authorized_imports),
            "code_block_opening_tag": self.code_block_tags[0],
            "code_block_closing_tag": self.code_block_tags[1],
        }

    @property
    def python_executor(self) -> Any:
        raise AttributeError(
            "wherry's agents have no python_executor: a run's sandbox begins and ends with it. Give variables as "
            "`additional_args`, functions as tools"
        )

    def cleanup(self) -> None:
        """Nothing is left to clean up: a run's sandbox ends with it."""

    def __enter__(self) -> CodeAgent:
        return self

    def __exit__(self, *_: object) -> None:
        self.cleanup()


class ToolCallingAgent(MultiStepAgent):
    """An agent whose model calls tools by their schemas.

    Args:
        tools: as of `MultiStepAgent`.
        model: as of `MultiStepAgent`.
        prompt_templates: as of `MultiStepAgent`.
        planning_interval: as of `MultiStepAgent`.
        stream_outputs: show replies piece by piece, when `run(stream=True)`.
        max_tool_threads: calls of one reply that run at the same time.
        kwargs: those of `MultiStepAgent`.
    """

    names_state: ClassVar[bool] = True

    def __init__(
        self,
        tools: Sequence[Any],
        model: Any,
        prompt_templates: Mapping[str, Any] | None = None,
        planning_interval: int | None = None,
        stream_outputs: bool = False,
        max_tool_threads: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.max_tool_threads = max_tool_threads
        super().__init__(tools, model, prompt_templates, planning_interval=planning_interval, **kwargs)
        self.stream_outputs = stream_outputs

    def make_core(self) -> ToolsCore:
        return ToolsCore(
            self,
            parallel_tools=self.max_tool_threads or 4,
            name=self.name,
            description=self.description,
            instructions=self.instructions,
            max_steps=self.max_steps,
            planning_interval=self.planning_interval,
            **self._options,
        )

    @property
    def tools_and_managed_agents(self) -> list[Any]:
        return [*self.tools.values(), *self.managed_agents.values()]

    def execute_tool_call(self, tool_name: str, arguments: Any) -> Any:
        """Call a tool or a managed agent by hand.

        Raises:
            AgentToolExecutionError: there is none of that name, or it failed.
        """
        known = {**self.tools, **self.managed_agents}
        if tool_name not in known:
            raise AgentToolExecutionError(
                f"Unknown tool {tool_name}, should be one of: {', '.join(known)}.", self.logger
            )
        try:
            validate_tool_arguments(known[tool_name], arguments)
        except (TypeError, ValueError) as error:
            raise AgentToolCallError(str(error), self.logger) from error
        try:
            return known[tool_name](**arguments) if isinstance(arguments, dict) else known[tool_name](arguments)
        except (Exception, ToolError) as error:
            raise AgentToolExecutionError(
                f"Error executing tool '{tool_name}' with arguments {arguments}: {type(error).__name__}: {error}\n"
                "Please try again or use another tool",
                self.logger,
            ) from error


_SANDBOXES = {
    "local": "auto",
    "wasm": "wasm",
    "docker": "auto",
    "e2b": "auto",
    "modal": "auto",
    "blaxel": "auto",
}

AGENT_REGISTRY: dict[str, type[MultiStepAgent]] = {"CodeAgent": CodeAgent, "ToolCallingAgent": ToolCallingAgent}
"""What a saved agent may be."""
