"""Agents as folders of code and JSON, in smolagents' own format: it reads what is saved here, and the other way round.

Loading runs the code of the tools: load what you would import.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast  # Any: agents, models and tools of any kind

from wherry.compat.smolagents.imports import BASE_BUILTIN_MODULES
from wherry.compat.smolagents.monitoring import LogLevel
from wherry.compat.smolagents.templates import default_templates
from wherry.compat.smolagents.tools import Tool
from wherry.errors import ConfigurationError

_ALWAYS = (
    "name",
    "description",
    "prompt_templates",
    "max_steps",
    "planning_interval",
    "instructions",
    "provide_run_summary",
    "return_full_result",
    "stream_outputs",
)
_OF_CODE = ("executor_type", "executor_kwargs", "max_print_outputs_length", "code_block_tags")
_ANY_CLASS = ("stream_outputs",)


class Kept:
    """What agents are saved with and loaded by. Callbacks, checks and keys of models are not saved."""

    def to_dict(self) -> dict[str, Any]:
        """The agent as JSON, with its tools' code and the agents below it.

        Raises:
            ValueError: a tool's code needs what it does not bring along.
        """
        agent = cast("Any", self)
        if agent.final_answer_checks:
            agent.logger.log("This agent has final_answer_checks: they are not saved.", level=LogLevel.INFO)
        tools = [_tool_dict(tool) for tool in agent.tools.values()]
        below = [one.to_dict() for one in agent.managed_agents.values()]
        imports: Sequence[str] = getattr(agent, "additional_authorized_imports", ())
        needed = {name for one in [*tools, *below] for name in one["requirements"]}
        needed |= {name.split(".")[0] for name in imports if name != "*"}
        data = getattr(agent.model, "to_dict", None)
        out: dict[str, Any] = {
            "class": type(self).__name__,
            "tools": tools,
            "model": {"class": type(agent.model).__name__, "data": {} if data is None else data()},
            "managed_agents": below,
            "verbosity_level": int(agent.logger.level),
            "requirements": sorted(needed),
            **{key: getattr(agent, key) for key in _ALWAYS},
        }
        if agent.prompt_templates == default_templates():
            del out["prompt_templates"]  # whoever reads it has some of its own
        if hasattr(agent, "authorized_imports"):
            out["authorized_imports"] = agent.authorized_imports
            out.update({key: getattr(agent, key) for key in _OF_CODE})
            kept = {key: value for key, value in agent.executor_kwargs.items() if key != "additional_functions"}
            out["executor_kwargs"] = kept  # functions are no JSON
            out["use_structured_outputs_internally"] = agent.response_format is not None
        return out

    @classmethod
    def from_dict(cls, agent_dict: Mapping[str, Any], **kwargs: Any) -> Self:
        """An agent of what `to_dict` gave. The tools' code is run.

        Args:
            agent_dict: as JSON.
            kwargs: arguments of the class that take the place of what is in the dict; `model` is also the model of the
                agents below.

        Raises:
            ValueError: a class of a model or an agent is unknown; or a tool's code holds none.
        """
        from wherry.compat.smolagents.agents import AGENT_REGISTRY

        model = kwargs.pop("model", None)
        own = {} if model is None else {"model": model}
        options: dict[str, Any] = {
            "tools": [Tool.from_dict(one) for one in agent_dict.get("tools") or ()],
            "model": _model(agent_dict["model"]) if model is None else model,
            "managed_agents": [
                _registered(one["class"], AGENT_REGISTRY).from_dict(one, **own)
                for one in agent_dict.get("managed_agents") or ()
            ],
        }
        known = [*_ALWAYS, "verbosity_level"]
        if issubclass(cls, AGENT_REGISTRY["CodeAgent"]):
            known += [*_OF_CODE, "use_structured_outputs_internally"]
            imports = [one for one in agent_dict.get("authorized_imports") or () if one not in BASE_BUILTIN_MODULES]
            options["additional_authorized_imports"] = imports
        elif not issubclass(cls, tuple(AGENT_REGISTRY.values())):
            known = [key for key in known if key not in _ANY_CLASS]
        options.update({key: agent_dict[key] for key in known if agent_dict.get(key) is not None})
        if isinstance(tags := options.get("code_block_tags"), list):
            options["code_block_tags"] = tuple(cast("list[str]", tags))
        return cls(**{**options, **kwargs})

    def save(self, output_dir: str | Path, relative_path: str | None = None) -> None:
        """The agent as a folder: `agent.json`, `requirements.txt`, `tools/NAME.py`, `managed_agents/NAME/`.

        Args:
            output_dir: the folder; it is made.
            relative_path: not needed: the files do not name each other.

        Raises:
            ValueError: a tool's code needs what it does not bring along, or the model has what is no JSON.
        """
        agent = cast("Any", self)
        saved = self.to_dict()
        names = [one["name"] for one in saved["tools"]]
        managed = {name: type(one).__name__ for name, one in agent.managed_agents.items()}
        try:
            text = json.dumps({**saved, "tools": names, "managed_agents": managed}, indent=4)
        except TypeError as error:  # before anything is written
            raise ValueError(f"the agent cannot be saved as JSON: {error}") from error
        folder = Path(output_dir)
        tools = folder / "tools"
        tools.mkdir(parents=True, exist_ok=True)
        for one in saved["tools"]:
            (tools / f"{one['name']}.py").write_text(one["code"], encoding="utf-8")
        for name, below in agent.managed_agents.items():
            below.save(folder / "managed_agents" / name)
        for place in (folder, tools, folder / "managed_agents"):
            if place.is_dir():
                (place / "__init__.py").touch()
        (folder / "requirements.txt").write_text("".join(f"{one}\n" for one in saved["requirements"]), encoding="utf-8")
        (folder / "agent.json").write_text(text, encoding="utf-8")

    @classmethod
    def from_folder(cls, folder: str | Path, **kwargs: Any) -> Self:
        """An agent from a folder that `save` made. The tools' code is run.

        Args:
            folder: with an `agent.json`.
            kwargs: as of `from_dict`.

        Raises:
            ValueError: as of `from_dict`.
            OSError: a file is missing.
        """
        from wherry.compat.smolagents.agents import AGENT_REGISTRY

        where = Path(folder)
        saved: dict[str, Any] = json.loads((where / "agent.json").read_text(encoding="utf-8"))
        own = {"model": kwargs["model"]} if "model" in kwargs else {}
        managed: dict[str, str] = saved["managed_agents"] or {}
        if managed and "managed_agents" not in kwargs:
            kwargs["managed_agents"] = [
                _registered(kind, AGENT_REGISTRY).from_folder(where / "managed_agents" / name, **own)
                for name, kind in managed.items()
            ]
        tools = [{"code": (where / "tools" / f"{name}.py").read_text(encoding="utf-8")} for name in saved["tools"]]
        return cls.from_dict({**saved, "tools": tools, "managed_agents": []}, **kwargs)

    def push_to_hub(self, *_: object, **__: object) -> None:
        raise _no_hub("push an agent to a hub")

    @classmethod
    def from_hub(cls, *_: object, **__: object) -> Any:
        raise _no_hub("load agents from a hub")


def _tool_dict(tool: object) -> dict[str, Any]:
    if isinstance(tool, Tool):
        return tool.to_dict()
    name = getattr(tool, "name", type(tool).__name__)
    raise ValueError(f"Tool '{name}' cannot be saved: it is no Tool of smolagents' kind")


def _model(saved: Mapping[str, Any]) -> Any:
    from wherry.compat.smolagents.models import MODEL_REGISTRY

    kind = "InferenceClientModel" if saved["class"] == "HfApiModel" else saved["class"]
    if kind not in MODEL_REGISTRY:
        raise ValueError(
            f"Unknown model class '{kind}'. Supported models: {', '.join(sorted(MODEL_REGISTRY))}. "
            "For one of your own, give model=..."
        )
    # Older versions wrote down what was not set, and what was counted.
    data = {key: it for key, it in saved["data"].items() if it is not None and not key.startswith("last_")}
    return MODEL_REGISTRY[kind].from_dict(data)


def _registered(kind: str, known: Mapping[str, Any]) -> Any:
    if kind not in known:
        raise ValueError(f"Unknown agent class '{kind}'. Supported agents: {', '.join(sorted(known))}")
    return known[kind]


def _no_hub(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"wherry does not {what}",
        hint="`save` makes a folder for a repository, `from_folder` reads one: what runs is then what was reviewed",
    )
