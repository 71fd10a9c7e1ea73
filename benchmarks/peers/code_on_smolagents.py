"""smolagents' own interpreter, in its process: what its code agent uses if nothing else is said."""

from __future__ import annotations

import time

import snippets
from smolagents.local_python_executor import LocalPythonExecutor


def tool() -> int:
    return 1


started = time.perf_counter()
executor = LocalPythonExecutor(additional_authorized_imports=[], timeout_seconds=None)
executor.send_tools({"tool": tool})
executor.send_variables({})
snippets.measure(lambda text: executor(text).output, started=started)
