"""Whether a model fits this machine's memory, and with how much context it would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from wherry.doctor.config_need import config_layers, config_need, read_config
from wherry.doctor.need import Layers, MemoryNeed, Setting, gguf_layers, gguf_need
from wherry.doctor.room import Room, rooms
from wherry.errors import CatalogueError, ModelFileError
from wherry.models.local.catalogue import entry
from wherry.models.local.gguf import read_gguf

SPARE = 0.05
"""Share of the free memory that is left alone: a machine is slow long before it is full."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One place, and whether the model fits there."""

    room: Room
    fits: bool | None
    """None when nobody knows how much is free there."""
    largest_context: int | None
    """Tokens a slot that would fit; 0 when not even the weights do."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What a model takes, and where it fits."""

    name: str
    setting: Setting
    trained_context: int | None
    layers: Layers
    need: MemoryNeed
    verdicts: Sequence[Verdict]

    @property
    def fits(self) -> bool:
        """Whether it fits somewhere, or may: where nothing is known, nothing is refused."""
        return any(verdict.fits is not False for verdict in self.verdicts)


def fit(model: str, setting: Setting, *, places: Sequence[Room] | None = None) -> Fit:
    """Work out what a model takes and where it fits; nothing is loaded.

    Args:
        model: a GGUF file, a folder with `config.json`, that file itself, or a model of the catalogue.
        setting: how it is to be served.
        places: instead of what this machine has free now.

    Raises:
        ModelFileError: there is no such model, or its file does not say what is needed.
    """
    path = _path(model)
    if path.is_dir() or path.suffix == ".json":
        config, _ = read_config(path)
        trained, layers = config.get("max_position_embeddings"), config_layers(config, path)
        sized: Callable[[Setting], MemoryNeed] = partial(config_need, path)
        name = str(config.get("_name_or_path") or path.resolve().name)
    else:
        info = read_gguf(path)
        trained, layers, name = info.context_length, gguf_layers(info), info.name
        sized = partial(gguf_need, info)
    need = sized(setting)
    verdicts = [_verdict(room, need, setting, sized) for room in (rooms() if places is None else places)]
    return Fit(name, setting, trained if isinstance(trained, int) else None, layers, need, verdicts)


def _path(model: str) -> Path:
    path = Path(model).expanduser()
    if path.exists():
        return path
    try:
        known = entry(model)
    except CatalogueError:
        raise ModelFileError(
            f"there is no model {model!r}: no such file, and none of that name in the catalogue",
            hint="give a GGUF file, a folder with config.json, or a name that `wherry models list` shows",
        ) from None
    if not known.path.exists():
        raise ModelFileError(
            f"the model {model!r} is not on this machine", hint=f"wherry models pull {model}, then ask again"
        )
    return known.path


def _verdict(room: Room, need: MemoryNeed, setting: Setting, sized: Callable[[Setting], MemoryNeed]) -> Verdict:
    if room.free is None:
        return Verdict(room, None, None)
    most = int(room.free * (1 - SPARE))
    if sized(replace(setting, context=1)).total > most:
        return Verdict(room, fits=False, largest_context=0)
    low, high = 1, 1 << 24
    while high - low > 1:
        middle = (low + high) // 2
        if sized(replace(setting, context=middle)).total <= most:
            low = middle
        else:
            high = middle
    return Verdict(room, need.total <= most, low)
