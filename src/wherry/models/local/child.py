"""Runs llama.cpp's server. A program of its own, started by `server.py`; imports nothing of wherry.

Standard input: one line of JSON, the settings; then nothing, until the parent is gone. Standard output: one line of
JSON, the address or the error. All that llama.cpp says goes to standard error.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import threading
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _die_with_parent(parent: int) -> None:
    """A server without its parent serves nobody, and holds gigabytes."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _params(xllamacpp: Any, settings: dict[str, Any]) -> Any:  # Any: xllamacpp has no types
    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.n_ctx = settings["context"] * settings["slots"]  # the server splits it between the slots
    params.n_parallel = settings["slots"]
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # any free one
    params.api_keys = [settings["key"]]
    params.cache_ram_mib = 64  # the default of 8,192 grows until the machine is full
    params.kv_unified = False  # shared between slots, four prompts that fit overflow together, with a 500
    params.no_extra_bufts = settings["save_memory"]  # repacked weights take half as much memory again
    params.fit_params = False  # it would shrink the context in silence
    params.warmup = False  # 0.3 s at start, for nothing: the first prompt warms up as well
    params.ui = False
    params.verbosity = 2  # warnings and errors
    if settings["slot_folder"]:
        params.slot_save_path = settings["slot_folder"] + os.sep  # names are put behind it as they are
    return params


def main() -> NoReturn:
    # Taken before anything can print: libraries may write to descriptor 1, the parent must not read that.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    settings = json.loads(sys.stdin.readline())
    _die_with_parent(settings["parent"])
    try:
        xllamacpp: Any = importlib.import_module("xllamacpp")
        server = xllamacpp.Server(_params(xllamacpp, settings))
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent has to hear of it
        answer.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        answer.flush()
        os._exit(1)
    answer.write(json.dumps({"url": server.listening_address}) + "\n")
    answer.close()

    def wait() -> None:
        # Where the system cannot tie the two lives together (macOS), the pipe's end does.
        while sys.stdin.buffer.read(65536):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
