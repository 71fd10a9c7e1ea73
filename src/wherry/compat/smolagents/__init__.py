"""Programs written for smolagents, run by wherry: change the import line, nothing else.

    from wherry.compat.smolagents import CodeAgent, LiteLLMModel, tool

Names, arguments, memory steps, callbacks, errors and what `run()` gives back are those of smolagents 1.26. Below them
run wherry's own agents: one loop, one bounded context, one sandbox, one journal. What is different for it:

* Code is real CPython in a sandbox of the operating system, not an interpreter in the program's own process. The whole
  standard library can be imported; packages of `additional_authorized_imports` are installed for the sandbox.
  Tools run in the program, results cross as data: an object that is no data arrives in a snippet as text.
* Nothing leaks: variables live as long as a run. `reset=False` goes on with the conversation, not with the variables.
* Requests are bounded. Large observations, inputs and answers are set aside and read in pieces; old steps are folded
  into a summary. Steps that are changed, dropped or put in in `agent.memory` are so for the model too, unless folded.
* The system prompt is wherry's: short, with the rules of the sandbox. `prompt_templates["system_prompt"]` may add to it
  (`{{ rules }}` stands for it) or replace it. Code is read between backticks and between `<code>` and `</code>`.
* Models are asked again when that helps, by the kind of failure; what is left is an `AgentGenerationError`.
* Several calls of one reply give all their results, also when one fails; one beside `final_answer` is made.
* `agent.run(stream=True)` goes on when the next step is asked for, and is cancelled when the generator is closed.
* Managed agents run in parallel where they are called so, each run with its own state; `limits=Limits(...)` holds for
  all agents below. `limits`, `context`, `policy` and `store` are taken by every agent.
* Agents and tools are saved as folders of smolagents' own format, and loaded from them; there is no hub. Agents are
  not stepped by hand; there is no GradioUI.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wherry.compat.smolagents.agent_types import AgentAudio, AgentImage, AgentText
    from wherry.compat.smolagents.agents import (
        EMPTY_PROMPT_TEMPLATES,
        ActionOutput,
        CodeAgent,
        FinalAnswerPromptTemplate,
        ManagedAgentPromptTemplate,
        MultiStepAgent,
        PlanningPromptTemplate,
        PromptTemplates,
        RunResult,
        ToolCallingAgent,
        ToolOutput,
        populate_template,
    )
    from wherry.compat.smolagents.default_tools import (
        DuckDuckGoSearchTool,
        FinalAnswerTool,
        PythonInterpreterTool,
        UserInputTool,
        VisitWebpageTool,
        WebSearchTool,
        WikipediaSearchTool,
    )
    from wherry.compat.smolagents.errors import (
        AgentError,
        AgentExecutionError,
        AgentGenerationError,
        AgentMaxStepsError,
        AgentParsingError,
        AgentToolCallError,
        AgentToolExecutionError,
    )
    from wherry.compat.smolagents.local_python_executor import LocalPythonExecutor
    from wherry.compat.smolagents.mcp_client import MCPClient
    from wherry.compat.smolagents.memory import (
        ActionStep,
        AgentMemory,
        CallbackRegistry,
        FinalAnswerStep,
        MemoryStep,
        PlanningStep,
        SystemPromptStep,
        TaskStep,
        ToolCall,
    )
    from wherry.compat.smolagents.models import (
        REMOVE_PARAMETER,
        AmazonBedrockModel,
        AmazonBedrockServerModel,
        ApiModel,
        AzureOpenAIModel,
        AzureOpenAIServerModel,
        ChatMessage,
        ChatMessageStreamDelta,
        ChatMessageToolCall,
        ChatMessageToolCallFunction,
        ChatMessageToolCallStreamDelta,
        InferenceClientModel,
        LiteLLMModel,
        LiteLLMRouterModel,
        MessageRole,
        Model,
        OpenAIModel,
        OpenAIServerModel,
        TransformersModel,
        agglomerate_stream_deltas,
    )
    from wherry.compat.smolagents.monitoring import AgentLogger, LogLevel, Monitor, Timing, TokenUsage
    from wherry.compat.smolagents.search_apis import ApiWebSearchTool, GoogleSearchTool
    from wherry.compat.smolagents.tools import BaseTool, Tool, ToolCollection, load_tool, tool

_NAMES = {
    "agent_types": "AgentAudio AgentImage AgentText",
    "agents": (
        "EMPTY_PROMPT_TEMPLATES ActionOutput CodeAgent FinalAnswerPromptTemplate ManagedAgentPromptTemplate "
        "MultiStepAgent PlanningPromptTemplate PromptTemplates RunResult ToolCallingAgent ToolOutput populate_template"
    ),
    "default_tools": (
        "DuckDuckGoSearchTool FinalAnswerTool PythonInterpreterTool UserInputTool VisitWebpageTool WebSearchTool "
        "WikipediaSearchTool"
    ),
    "errors": (
        "AgentError AgentExecutionError AgentGenerationError AgentMaxStepsError AgentParsingError AgentToolCallError "
        "AgentToolExecutionError"
    ),
    "local_python_executor": "LocalPythonExecutor",
    "mcp_client": "MCPClient",
    "memory": (
        "ActionStep AgentMemory CallbackRegistry FinalAnswerStep MemoryStep PlanningStep SystemPromptStep TaskStep "
        "ToolCall"
    ),
    "models": (
        "REMOVE_PARAMETER AmazonBedrockModel AmazonBedrockServerModel ApiModel AzureOpenAIModel "
        "AzureOpenAIServerModel ChatMessage ChatMessageStreamDelta "
        "ChatMessageToolCall ChatMessageToolCallFunction ChatMessageToolCallStreamDelta InferenceClientModel "
        "LiteLLMModel LiteLLMRouterModel MessageRole Model OpenAIModel OpenAIServerModel TransformersModel "
        "agglomerate_stream_deltas"
    ),
    "monitoring": "AgentLogger LogLevel Monitor Timing TokenUsage",
    "search_apis": "ApiWebSearchTool GoogleSearchTool",
    "tools": "BaseTool Tool ToolCollection load_tool tool",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "EMPTY_PROMPT_TEMPLATES",
    "REMOVE_PARAMETER",
    "ActionOutput",
    "ActionStep",
    "AgentAudio",
    "AgentError",
    "AgentExecutionError",
    "AgentGenerationError",
    "AgentImage",
    "AgentLogger",
    "AgentMaxStepsError",
    "AgentMemory",
    "AgentParsingError",
    "AgentText",
    "AgentToolCallError",
    "AgentToolExecutionError",
    "AmazonBedrockModel",
    "AmazonBedrockServerModel",
    "ApiModel",
    "ApiWebSearchTool",
    "AzureOpenAIModel",
    "AzureOpenAIServerModel",
    "BaseTool",
    "CallbackRegistry",
    "ChatMessage",
    "ChatMessageStreamDelta",
    "ChatMessageToolCall",
    "ChatMessageToolCallFunction",
    "ChatMessageToolCallStreamDelta",
    "CodeAgent",
    "DuckDuckGoSearchTool",
    "FinalAnswerPromptTemplate",
    "FinalAnswerStep",
    "FinalAnswerTool",
    "GoogleSearchTool",
    "InferenceClientModel",
    "LiteLLMModel",
    "LiteLLMRouterModel",
    "LocalPythonExecutor",
    "LogLevel",
    "MCPClient",
    "ManagedAgentPromptTemplate",
    "MemoryStep",
    "MessageRole",
    "Model",
    "Monitor",
    "MultiStepAgent",
    "OpenAIModel",
    "OpenAIServerModel",
    "PlanningPromptTemplate",
    "PlanningStep",
    "PromptTemplates",
    "PythonInterpreterTool",
    "RunResult",
    "SystemPromptStep",
    "TaskStep",
    "Timing",
    "TokenUsage",
    "Tool",
    "ToolCall",
    "ToolCallingAgent",
    "ToolCollection",
    "ToolOutput",
    "TransformersModel",
    "UserInputTool",
    "VisitWebpageTool",
    "WebSearchTool",
    "WikipediaSearchTool",
    "agglomerate_stream_deltas",
    "load_tool",
    "populate_template",
    "tool",
]


def __getattr__(name: str) -> Any:  # Any: whatever the name stands for
    home = _HOMES.get(name)
    if home is None:
        hint = " (there is no GradioUI here: use `wherry ui`)" if name == "GradioUI" else ""
        raise AttributeError(f"module 'wherry.compat.smolagents' has no attribute {name!r}{hint}")
    value = getattr(import_module(f"wherry.compat.smolagents.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
