"""Finding the agent that a command names: a file or a module, and an attribute of it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Literal, cast

from wherry.agents import Agent, CodeAgent, ToolCallingAgent
from wherry.errors import ConfigurationError, WherryError
from wherry.store import open_store

Kind = Literal["code", "tools"]

HINT = "give --agent path/to/file.py:name or --agent module:name"


def agent_from(spec: str, *, model: str | None) -> Agent:
    """The agent that `spec` names; a function is called to make it.

    A function that has a parameter `model` gets the one that the command names; an agent that was made already gets it
    in place of its own, as do the agents that it manages. A file finds its neighbours as `python FILE` would.

    Raises:
        ConfigurationError: there is no such file, module or attribute, or it is no agent.
    """
    where, colon, name = spec.rpartition(":")
    if not colon or not where or not name:
        raise ConfigurationError(f"{spec!r} names no agent", hint=HINT)
    found = _attribute(_module(where), name, spec)
    if callable(found) and not isinstance(found, Agent):
        return _made(found, spec, model)
    if not isinstance(found, Agent):
        raise ConfigurationError(f"{spec!r} is no agent, but of type {type(found).__name__}", hint=HINT)
    if model is not None:
        _give(found, model, set())
    return found


def keep_in(agent: Agent, store: str | None) -> None:
    """Keep an agent's runs in the store that the command names, whatever store it was made with.

    Raises:
        ConfigurationError, StoreError: there is no such store, or it cannot be opened.
    """
    if store is not None:  # the agents that it manages use the store of the run that calls them
        agent.store = open_store(store)


def plain_agent(kind: Kind, *, model: str | None) -> Agent:
    """The agent of a command that names none: with a memo, and with web search where the extra `web` is installed."""
    from wherry.tools.builtin import WebSearch, memo

    tools: list[object] = [memo]
    if find_spec("ddgs") is not None:
        tools.append(WebSearch())
    return CodeAgent(tools, model) if kind == "code" else ToolCallingAgent(tools, model)


def _module(where: str) -> ModuleType:
    if not where.endswith(".py") and "/" not in where:
        _import_from(Path.cwd())  # as `python -m` does
        try:
            return import_module(where)
        except ModuleNotFoundError as error:
            if error.name is None or not (where == error.name or where.startswith(f"{error.name}.")):
                raise _broken(where, error) from error
            raise ConfigurationError(f"there is no module {where!r}", hint=HINT) from None
        except WherryError:
            raise
        except (Exception, SystemExit) as error:
            raise _broken(where, error) from error
    path = Path(where)
    if not path.is_file():
        raise ConfigurationError(f"there is no file {where!r}", hint=HINT)
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{where!r} is no Python file", hint=HINT)
    module = module_from_spec(spec)
    _import_from(path.resolve().parent)  # as `python FILE` does
    # Registered, so that what looks a class's module up by name (dataclasses, pydantic, pickle) finds it.
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
    except WherryError:
        raise
    except (Exception, SystemExit) as error:
        raise _broken(where, error) from error
    return module


def _import_from(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _attribute(module: ModuleType, name: str, spec: str) -> object:
    try:
        return cast("object", getattr(module, name))
    except AttributeError:
        known = sorted(
            key
            for key, value in vars(module).items()
            if not key.startswith("_")
            and (isinstance(value, Agent) or (inspect.isfunction(value) and value.__module__ == module.__name__))
        )
        raise ConfigurationError(f"{spec!r}: there is no {name!r}", hint=f"it has: {', '.join(known)}") from None


def _made(factory: Callable[..., object], spec: str, model: str | None) -> Agent:
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        parameters = {}
    try:
        made = factory(model=model) if model is not None and "model" in parameters else factory()
    except WherryError:
        raise
    except (Exception, SystemExit) as error:
        raise _broken(spec, error) from error
    if not isinstance(made, Agent):
        raise ConfigurationError(f"{spec!r} made no agent, but a {type(made).__name__}", hint=HINT)
    if model is not None and "model" not in parameters:
        _give(made, model, set())
    return made


def _give(agent: Agent, model: str, seen: set[int]) -> None:
    if id(agent) not in seen:
        seen.add(id(agent))
        agent.model = model
        for managed in agent.managed_agents.values():
            _give(managed, model, seen)


def _broken(where: str, error: Exception | SystemExit) -> ConfigurationError:
    line = ""
    trace = error.__traceback__
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith("<"):
            line = f"{trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}"
        trace = trace.tb_next
    if isinstance(error, SyntaxError):
        line = f"{error.filename}, line {error.lineno}"
    return ConfigurationError(f"{where!r} cannot be loaded: {type(error).__name__}: {error}", hint=f"see {line}")
