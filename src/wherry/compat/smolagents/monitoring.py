"""What a run is printed with, and what it took."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wherry.compat.smolagents.messages import ChatMessage


class LogLevel(IntEnum):
    """How much is printed."""

    OFF = -1
    ERROR = 0
    INFO = 1
    DEBUG = 2


@dataclass
class TokenUsage:
    """Tokens of a step or a run."""

    input_tokens: int
    output_tokens: int
    total_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.total_tokens = self.input_tokens + self.output_tokens

    def dict(self) -> dict[str, int]:
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "total_tokens": self.total_tokens,
        }


@dataclass
class Timing:
    """Unix times, in seconds."""

    start_time: float
    end_time: float | None = None

    @property
    def duration(self) -> float | None:
        return None if self.end_time is None else self.end_time - self.start_time

    def dict(self) -> dict[str, float | None]:
        return {"start_time": self.start_time, "end_time": self.end_time, "duration": self.duration}

    def __repr__(self) -> str:
        return f"Timing(start_time={self.start_time}, end_time={self.end_time}, duration={self.duration})"


class _Step(Protocol):
    timing: Timing
    token_usage: TokenUsage | None


class _Described(Protocol):
    """An agent as its tree shows it."""

    tools: dict[str, Any]  # Any: tools of any kind
    managed_agents: dict[str, Any]  # Any: agents of any kind
    model: Any  # Any: models of any kind


class AgentLogger:
    """Prints what an agent does.

    Args:
        level: what is printed: everything of this level and below.
        console: a `rich.console.Console`; without one, and without `print_with`, rich's own to standard output.
    """

    def __init__(self, level: LogLevel | int = LogLevel.INFO, console: Any = None) -> None:  # Any: rich's Console
        self.level = level
        self._console = console

    @property
    def console(self) -> Any:  # Any: rich's Console
        """Made at the first use: rich takes a while to import."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(highlight=False)
        return self._console

    @console.setter
    def console(self, console: Any) -> None:
        self._console = console

    def log(self, *args: object, level: int | str | LogLevel = LogLevel.INFO, **kwargs: Any) -> None:
        """Print, if the level is within the logger's.

        Args:
            args: texts and rich's renderables.
            level: a number or a name.
            kwargs: those of `Console.print`.
        """
        if self.shows(level):
            self.console.print(*args, **kwargs)

    def shows(self, level: int | str | LogLevel) -> bool:
        wanted = LogLevel[level.upper()] if isinstance(level, str) else level
        return wanted <= self.level

    def log_error(self, error_message: str) -> None:
        self._plain(error_message, LogLevel.ERROR, "bold red")

    def log_markdown(
        self, content: str, title: str | None = None, level: int = LogLevel.INFO, style: str = "yellow"
    ) -> None:
        if title:
            self._plain(title, level, f"bold italic {style}")
        self._plain(content, level)

    def log_code(self, title: str, content: str, level: int = LogLevel.INFO) -> None:
        self._plain(title, level, "bold")
        self._plain(content, level, "cyan")

    def log_rule(self, title: str, level: int = LogLevel.INFO) -> None:
        if self.shows(level):
            from rich.rule import Rule
            from rich.text import Text

            self.console.print(Rule(Text(title, style="bold"), characters="━", style="yellow"))

    def log_task(self, content: str, subtitle: str, title: str | None = None, level: int = LogLevel.INFO) -> None:
        self._plain(f"New run - {title}" if title else "New run", level, "bold yellow")
        self._plain(content, level, "bold")
        self._plain(subtitle, level, "dim")

    def log_messages(self, messages: Sequence[ChatMessage], level: int = LogLevel.DEBUG) -> None:
        self._plain("\n".join(json.dumps(message.dict(), indent=4, default=str) for message in messages), level)

    def visualize_agent_tree(self, agent: _Described) -> None:
        """Print an agent, its tools and the agents below it."""
        from rich.tree import Tree

        tree = Tree(_text(_headline(agent)))
        _branches(tree, agent)
        self.console.print(tree)

    def _plain(self, text: object, level: int, style: str = "") -> None:
        """As it is: markup in texts of models and tools means nothing."""
        if self.shows(level):
            from rich.text import Text

            said = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
            self.console.print(Text(_visible(said), style=style))


class Monitor:
    """Adds up what the steps of a run took."""

    def __init__(self, tracked_model: object, logger: AgentLogger) -> None:
        self.step_durations: list[float] = []
        self.tracked_model = tracked_model
        self.logger = logger
        self.total_input_token_count = 0
        self.total_output_token_count = 0

    def get_total_token_counts(self) -> TokenUsage:
        return TokenUsage(self.total_input_token_count, self.total_output_token_count)

    def reset(self) -> None:
        self.step_durations = []
        self.total_input_token_count = 0
        self.total_output_token_count = 0

    def update_metrics(self, step_log: _Step) -> None:
        seconds = step_log.timing.duration or 0.0
        self.step_durations.append(seconds)
        said = f"[Step {len(self.step_durations)}: Duration {seconds:.2f} seconds"
        if step_log.token_usage is not None:
            self.total_input_token_count += step_log.token_usage.input_tokens
            self.total_output_token_count += step_log.token_usage.output_tokens
            said += (
                f" | Input tokens: {self.total_input_token_count:,} | Output tokens: {self.total_output_token_count:,}"
            )
        if self.logger.shows(LogLevel.INFO):
            from rich.text import Text

            self.logger.log(Text(f"{said}]", style="dim"), level=LogLevel.INFO)


def _text(said: object) -> Any:  # Any: rich's Text
    """As it is: brackets in it are no markup."""
    from rich.text import Text

    return Text(_visible(str(said)))


def _visible(text: str) -> str:
    from wherry.observe.visible import visible

    return visible(text)


def _headline(agent: _Described, name: str | None = None) -> str:
    about = f"{type(agent).__name__} | {getattr(agent.model, 'model_id', None)}"
    return f"{name} | {about}" if name else about


def _branches(tree: Any, agent: _Described) -> None:  # Any: rich's Tree
    from rich.table import Table

    imports: object = getattr(agent, "additional_authorized_imports", None)
    if imports is not None:
        tree.add(_text(f"Authorized imports: {imports}"))
    table = Table(show_header=True, header_style="bold")
    for column in ("Name", "Description", "Arguments"):
        table.add_column(column)
    for name, tool in agent.tools.items():
        inputs: Mapping[str, Mapping[str, object]] = getattr(tool, "inputs", None) or {}
        lines = (f"{one} ({body.get('type')}): {body.get('description', '')}" for one, body in inputs.items())
        table.add_row(_text(name), _text(getattr(tool, "description", tool)), _text("\n".join(lines)))
    tree.add("Tools:").add(table)
    if agent.managed_agents:
        below = tree.add("Managed agents:")
        for name, managed in agent.managed_agents.items():
            branch = below.add(_text(_headline(managed, name)))
            branch.add(_text(f"Description: {managed.description}"))
            _branches(branch, managed)
