"""How much memory this machine has free: its own, and its graphics cards'."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from wherry.models.local.catalogue import free_memory


@dataclass(frozen=True, slots=True)
class Room:
    """Memory that is free in one place."""

    place: str
    """`"RAM"`, or a card's name."""
    free: int | None
    """Bytes; None when the system does not tell."""


def rooms() -> Sequence[Room]:
    """The free memory of this machine (within its control group), then of each NVIDIA card."""
    return [Room("RAM", free_memory()), *_cards()]


def _cards() -> Sequence[Room]:
    try:
        nvml: Any = import_module("pynvml")  # Any: the package nvidia-ml-py has no types
    except ImportError:
        return []
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:  # no driver
        return []
    found: list[Room] = []
    try:
        for number in range(nvml.nvmlDeviceGetCount()):
            with suppress(nvml.NVMLError):  # a card that is lost, or a part of one that does not tell
                handle = nvml.nvmlDeviceGetHandleByIndex(number)
                name = nvml.nvmlDeviceGetName(handle)
                label = name.decode() if isinstance(name, bytes) else str(name)
                found.append(Room(f"GPU {number} ({label})", int(nvml.nvmlDeviceGetMemoryInfo(handle).free)))
    finally:
        nvml.nvmlShutdown()
    return found
