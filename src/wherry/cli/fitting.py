"""`wherry fit`: whether a model fits this machine, before anything is loaded."""

from __future__ import annotations

import sys

from wherry.cli.ending import Exit, print_json
from wherry.doctor.fit import Fit, Verdict, fit
from wherry.doctor.need import Setting
from wherry.models.local.catalogue import gigabytes
from wherry.observe.costs import aligned
from wherry.observe.visible import visible

_PARTS = ("weights", "repacked", "kv_cache", "buffers", "process")
_SAID = {
    "weights": "weights",
    "repacked": "weights, rearranged for the CPU",
    "kv_cache": "KV cache",
    "buffers": "buffers",
    "process": "the server's process",
}


def print_fit(model: str, setting: Setting, *, as_json: bool) -> Exit:
    """The table of what takes memory, and whether there is room.

    Raises:
        ModelFileError: there is no such model, or its file does not say what is needed.
    """
    found = fit(model, setting)
    if as_json:
        print_json(_json(found))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(found)))
    return Exit.DONE if found.fits else Exit.FAILED


def _lines(found: Fit) -> list[str]:
    setting, need = found.setting, found.need
    each = " each" if setting.slots > 1 else ""
    lines = [
        f"{visible(found.name)}: {setting.slots:,} request{'s' if setting.slots > 1 else ''} at a time,"
        f" {setting.context:,} tokens{each}, KV cache in {setting.cache_type}"
    ]
    if found.trained_context is not None and setting.context > found.trained_context:
        lines.append(f"It was trained for {found.trained_context:,} tokens: beyond them it answers nonsense.")
    rows = [("  " + _SAID[part], gigabytes(getattr(need, part))) for part in _PARTS if getattr(need, part)]
    rows.append(("  together", gigabytes(need.total)))
    lines += ["", *aligned(rows, left=1), ""]
    lines += [_verdict(verdict, found) for verdict in found.verdicts]
    if not found.fits:
        lines.append("hint: a smaller context (--ctx), fewer slots (--parallel), --cache-type q8_0, or a smaller model")
    return lines


def _verdict(verdict: Verdict, found: Fit) -> str:
    room = verdict.room
    if verdict.fits is None or room.free is None:
        return f"{room.place}: this system does not tell how much is free"
    free = f"{room.place}: {gigabytes(room.free)} free"
    if verdict.fits:
        return f"{free}: fits"
    if not verdict.largest_context:
        return f"{free}: does not fit, not even the weights"
    return f"{free}: does not fit; a context of {verdict.largest_context:,} tokens would"


def _json(found: Fit) -> dict[str, object]:
    need = found.need
    return {
        "model": found.name,
        "context": found.setting.context,
        "slots": found.setting.slots,
        "cache_type": found.setting.cache_type,
        "trained_context": found.trained_context,
        "layers": len(found.layers.kv_heads),
        "bytes": {**{part: getattr(need, part) for part in _PARTS}, "total": need.total},
        "places": [
            {
                "place": verdict.room.place,
                "free": verdict.room.free,
                "fits": verdict.fits,
                "largest_context": verdict.largest_context,
            }
            for verdict in found.verdicts
        ],
        "fits": found.fits,
    }
