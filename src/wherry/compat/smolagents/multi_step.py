"""What both kinds of agent are, by smolagents' names and arguments."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast  # Any: answers, tools and models are of any kind

from wherry.compat.smolagents import templates
from wherry.compat.smolagents.amending import Left
from wherry.compat.smolagents.core import as_called
from wherry.compat.smolagents.default_tools import TOOL_MAPPING, FinalAnswerTool
from wherry.compat.smolagents.keeping import Kept
from wherry.compat.smolagents.memory import (
    ActionStep,
    AgentMemory,
    CallbackRegistry,
    FinalAnswerStep,
    MemoryStep,
    SystemPromptStep,
    TaskStep,
)
from wherry.compat.smolagents.messages import ChatMessage, MessageRole, text_of
from wherry.compat.smolagents.monitoring import AgentLogger, LogLevel, Monitor
from wherry.compat.smolagents.outputs import RunResult
from wherry.compat.smolagents.playing import full_result, steps_of
from wherry.compat.smolagents.recording import Recording
from wherry.compat.smolagents.streaming import Caller
from wherry.compat.smolagents.templates import populate_template
from wherry.compat.smolagents.text import is_valid_name, truncate_content
from wherry.errors import ConfigurationError
from wherry.tools.tool import Tool as WherryTool

MANAGED_INPUTS: Mapping[str, Mapping[str, Any]] = {
    "task": {"type": "string", "description": "Long detailed description of the task."},
    "additional_args": {
        "type": "object",
        "description": "Extra inputs for the managed agent, by name.",
        "nullable": True,
    },
}


class MultiStepAgent(Kept):
    """What both kinds of agent take.

    Args:
        tools: tools; `agent.tools` is a dict of them by name, and may be changed at any time.
        model: a model of `wherry.compat.smolagents`, of wherry's own, or anything with a `generate`.
        prompt_templates: prompts of one's own; see `wherry.compat.smolagents.templates`.
        instructions: added to the system prompt.
        max_steps: requests that a run may take.
        add_base_tools: also give the web tools, and a tool-calling agent the Python interpreter.
        verbosity_level: how much is printed.
        managed_agents: agents that this one may ask; each has a name and a description.
        step_callbacks: called with each finished step: a list of functions, or lists of them by the step's class.
        planning_interval: plan before the first step and after every so many.
        name: by which a manager calls this agent.
        description: what a manager is told of it.
        provide_run_summary: tell a manager what was done, not only the answer.
        final_answer_checks: functions of the answer, the memory and the agent; false refuses the answer.
        return_full_result: whether `run` gives a `RunResult`, and not the bare answer.
        logger: what prints.
        options: wherry's own: `limits`, `context`, `policy`, `store`.

    Raises:
        ValueError: names that are none, or stand for two things.
        ConfigurationError: what wherry's agents refuse.
    """

    names_state: ClassVar[bool] = False
    """Whether an argument that is the name of something in `state` stands for that."""
    inputs: Mapping[str, Mapping[str, Any]] = MANAGED_INPUTS
    output_type = "string"

    def __init__(
        self,
        tools: Sequence[Any],
        model: Any,
        prompt_templates: Mapping[str, Any] | None = None,
        instructions: str | None = None,
        max_steps: int = 20,
        add_base_tools: bool = False,
        verbosity_level: LogLevel | int = LogLevel.INFO,
        managed_agents: Sequence[Any] | None = None,
        step_callbacks: Sequence[Callable[..., object]] | Mapping[type[MemoryStep], Any] | None = None,
        planning_interval: int | None = None,
        name: str | None = None,
        description: str | None = None,
        provide_run_summary: bool = False,
        final_answer_checks: Sequence[Callable[..., object]] | None = None,
        return_full_result: bool = False,
        logger: AgentLogger | None = None,
        **options: Any,
    ) -> None:
        unknown = options.keys() - {"limits", "context", "policy", "store", "hooks"}
        if unknown:
            raise TypeError(f"{type(self).__name__}() got an unexpected keyword argument {min(unknown)!r}")
        if name is not None and not is_valid_name(name):
            raise ValueError(f"Agent name '{name}' must be a valid Python identifier and not a reserved keyword.")
        self.agent_name = type(self).__name__
        self.model = model
        self.prompt_templates: Any = (
            templates.default_templates() if prompt_templates is None else templates.checked(prompt_templates)
        )
        self.instructions = instructions
        self.max_steps, self.planning_interval = max_steps, planning_interval
        self.name, self.description = name, description
        self.provide_run_summary, self.return_full_result = provide_run_summary, return_full_result
        self.final_answer_checks = list(final_answer_checks or ())
        self.stream_outputs = False
        self.state: dict[str, Any] = {}
        self.task: str | None = None
        self.step_number = 0
        self.run_id: str | None = None
        """Of the last run, as it stands in the journal."""
        self.interrupt_switch = False
        self._options = options
        self.session = new_session()
        self.left = Left()
        """What the session has of the memory."""
        self.recording: Recording | None = None
        """Of the run that began last: only its model is told of edits, where several are under way."""
        self.functions: dict[str, Any] = getattr(self, "functions", {})
        """Besides the tools, what snippets may call."""
        self.managed_agents: dict[str, Any] = {}
        for managed in managed_agents or ():
            if not (getattr(managed, "name", None) and getattr(managed, "description", None)):
                raise ValueError("All managed agents need both a name and a description!")
            self.managed_agents[managed.name] = managed
        self._check_names(tools, managed_agents or ())
        self.tools: dict[str, Any] = {tool.name: tool for tool in tools}
        if add_base_tools:
            wanted = (n for n in TOOL_MAPPING if n != "python_interpreter" or self.names_state)
            self.tools.update({n: TOOL_MAPPING[n]() for n in wanted})
        self.tools.setdefault("final_answer", FinalAnswerTool())
        self.logger = AgentLogger(verbosity_level) if logger is None else logger
        self.monitor = Monitor(model, self.logger)
        self._called: dict[int, tuple[Any, Any]] = {}
        self._setup_step_callbacks(step_callbacks)
        self.core: Any = self.make_core()
        self.memory = AgentMemory(self.system_prompt)

    # ---- what the two kinds fill in

    def make_core(self) -> Any:
        """wherry's agent below; None for a subclass of this class itself."""
        return None

    @property
    def response_format(self) -> Mapping[str, Any] | None:
        return None

    # ---- what users call

    def run(
        self,
        task: str,
        stream: bool = False,
        reset: bool = True,
        images: Sequence[Any] | None = None,
        additional_args: Mapping[str, Any] | None = None,
        max_steps: int | None = None,
        return_full_result: bool | None = None,
    ) -> Any:
        """Do a task.

        Args:
            task: what to do.
            stream: give a generator of the steps; the run goes on as they are asked for.
            reset: begin anew; False goes on with the conversation.
            images: pictures that the model is shown with the task.
            additional_args: values by name; they become variables of the code, or are known to tools by their names.
            max_steps: instead of the agent's own.
            return_full_result: instead of the agent's own.

        Raises:
            AgentGenerationError: the model could not be asked.
            AgentError: the run was interrupted or stopped by a limit.
        """
        if self.core is None:
            raise TypeError(f"{type(self).__name__} cannot run: derive from CodeAgent or ToolCallingAgent")
        session = new_session()
        if reset:
            self.memory.reset()
            self.monitor.reset()
            self.session, self.left = session, Left()
        # A stream begins when its first step is asked for: its memory may be edited until then. Any other run keeps the
        # session that was made for it here: another one of this agent may begin in the meantime.
        steps = steps_of(
            self,
            task,
            images or (),
            additional_args,
            max_steps,
            deltas=stream and self.stream_outputs,
            session=session if reset and not stream else None,
        )
        if stream:
            return steps
        started, output = time.time(), None
        for step in steps:
            if isinstance(step, FinalAnswerStep):
                output = step.output
        full = self.return_full_result if return_full_result is None else return_full_result
        return full_result(self, output, started) if full else output

    def __call__(self, task: str, **kwargs: Any) -> Any:
        """Do a task for a manager, and report."""
        text = populate_template(self.prompt_templates["managed_agent"]["task"], {"name": self.name, "task": task})
        result = self.run(text, **kwargs)
        return self.report(result.output if isinstance(result, RunResult) else result)

    def interrupt(self) -> None:
        """Stop the run before its next request."""
        self.interrupt_switch = True

    @property
    def system_prompt(self) -> str:
        return self.initialize_system_prompt()

    @system_prompt.setter
    def system_prompt(self, value: str) -> None:
        raise AttributeError(
            "The 'system_prompt' property is read-only. Use 'self.prompt_templates[\"system_prompt\"]' instead."
        )

    def initialize_system_prompt(self) -> str:
        return "" if self.core is None else self.core.prompt_now()

    @property
    def logs(self) -> list[Any]:
        """The system prompt and all steps."""
        return [self.memory.system_prompt, *self.memory.steps]

    def write_memory_to_messages(self, summary_mode: bool = False) -> list[ChatMessage]:
        """The memory as messages. What a model is really sent is made from wherry's own window."""
        messages = self.memory.system_prompt.to_messages(summary_mode=summary_mode)
        for step in self.memory.steps:
            messages.extend(step.to_messages(summary_mode=summary_mode))
        return messages

    def replay(self, detailed: bool = False) -> None:
        """Print the memory."""
        self.memory.replay(self.logger, detailed=detailed)

    def visualize(self) -> None:
        """Print the agent, its tools and the agents below it, as a tree."""
        self.logger.visualize_agent_tree(self)

    def step(self, memory_step: ActionStep) -> Any:
        raise ConfigurationError(
            "wherry's agents are not stepped by hand",
            hint="use `for step in agent.run(task, stream=True)`: the run goes on when the next step is asked for",
        )

    def provide_final_answer(self, task: str) -> ChatMessage:
        """Ask the model for an answer from what the memory has."""
        prompts = self.prompt_templates["final_answer"]
        last = populate_template(prompts["post_messages"], {"task": task})
        messages = [
            ChatMessage(MessageRole.SYSTEM, [{"type": "text", "text": prompts["pre_messages"]}]),
            *self.write_memory_to_messages()[1:],
            ChatMessage(MessageRole.USER, [{"type": "text", "text": last}]),
        ]
        return self.model.generate(messages)

    # ---- one run

    def begin(
        self, task: str, *, images: Sequence[Any] = (), caller: Caller | None = None, managed: bool = False
    ) -> Recording:
        """Note a task, and what is to be recorded of the run."""
        if managed:
            self.memory.reset()
        self.task = task
        self.step_number = 1
        self.interrupt_switch = False
        self.memory.system_prompt = SystemPromptStep(self.system_prompt)
        self.memory.steps.append(TaskStep(task, list(images) or None))
        about = f"{type(self.model).__name__} - {getattr(self.model, 'model_id', None) or ''}"
        self.logger.log_task(task.strip(), about, title=self.name, level=LogLevel.INFO)
        recording = Recording(
            self, self.core, images=images, caller=caller, managed=managed, response_format=self.response_format
        )
        recording.edits.begin(self.memory.steps)
        self.recording = recording
        return recording

    def report(self, output: Any) -> str:
        """What a manager is told of an answer."""
        template = self.prompt_templates["managed_agent"]["report"]
        said = populate_template(template, {"name": self.name, "final_answer": str(output)})
        if not self.provide_run_summary:
            return said
        work = "".join(
            f"\n{truncate_content(text_of(message.content))}\n---"
            for message in self.write_memory_to_messages(summary_mode=True)
        )
        return (
            f"{said}\n\nFor more detail, find below a summary of this agent's work:\n<summary_of_work>\n{work}\n"
            "</summary_of_work>"
        )

    def finalize_step(self, step: MemoryStep) -> None:
        """Call what wants to know of a finished step."""
        self.step_callbacks.callback(step, agent=self)

    _finalize_step = finalize_step

    def system_prompt_with(self, rules: str) -> str:
        """The system prompt, with wherry's own rules where the template has them."""
        if type(self).initialize_system_prompt is not MultiStepAgent.initialize_system_prompt:
            return self.initialize_system_prompt() or ""
        template = self.prompt_templates["system_prompt"]
        if template == templates.RULES:
            return rules
        variables = {
            "rules": rules,
            "tools": self.tools,
            "managed_agents": self.managed_agents,
            "custom_instructions": self.instructions or "",
            **self.prompt_variables(),
        }
        return populate_template(template, variables)

    def prompt_variables(self) -> Mapping[str, Any]:
        return {}

    def called_as_tool(self, name: str, managed: Any) -> Any:
        """The tool by which this agent asks a managed one that runs in a way of its own. Made once."""
        known = self._called.get(id(managed))
        if known is None or known[0] is not managed:
            description = str(managed.description)
            if not callable(managed):
                raise ConfigurationError(f"the managed agent {name!r} cannot be called", hint="give an agent")
            known = self._called[id(managed)] = (managed, as_called(name, description, managed))
        return known[1]

    def _setup_step_callbacks(
        self, step_callbacks: Sequence[Callable[..., object]] | Mapping[type[MemoryStep], Any] | None
    ) -> None:
        self.step_callbacks = CallbackRegistry()
        if isinstance(step_callbacks, Mapping):
            for kind, given in step_callbacks.items():
                callbacks = cast("list[Callable[..., object]]", given if isinstance(given, list) else [given])
                for callback in callbacks:
                    self.step_callbacks.register(kind, callback)
        elif isinstance(step_callbacks, list | tuple):
            for callback in step_callbacks:
                self.step_callbacks.register(ActionStep, callback)
        elif step_callbacks:
            raise ValueError("step_callbacks must be a list or a dict")
        self.step_callbacks.register(ActionStep, self.monitor.update_metrics)

    def _check_names(self, tools: Sequence[Any], managed_agents: Sequence[Any]) -> None:
        for tool in tools:
            if not isinstance(tool, WherryTool) and not (hasattr(tool, "name") and callable(tool)):
                raise TypeError(f"{tool!r} is no tool: make one with `@tool`, or derive from `Tool`")
        names = [item.name for item in (*tools, *managed_agents)]
        names += [self.name] if self.name else []
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"Each tool or managed_agent should have a unique name! You passed these duplicate names: {twice}"
            )


def new_session() -> str:
    return f"smolagents-{uuid.uuid4().hex}"
