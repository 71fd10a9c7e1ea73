"""What to do when there is no model: one screen with the choices, and what each costs."""

from __future__ import annotations

from importlib.util import find_spec

from wherry.errors import WherryError
from wherry.observe.costs import aligned


def no_model_screen(error: WherryError) -> str:
    """The choices, with what they want in download and memory."""
    from wherry.models.local.catalogue import catalogue, free_memory, gigabytes

    free = free_memory()
    rows = [("model", "download", "memory", "")]
    for entry in catalogue():
        if entry.general:
            fits = free is None or entry.ram <= free
            rows.append(
                (entry.name, gigabytes(entry.download), gigabytes(entry.ram), "" if fits else "more than is free now")
            )
    lines = [f"    {line}" for line in aligned(rows, left=1, gap="   ")]
    best = rows[1][0]
    pull = f"    wherry models pull {best}"
    if find_spec("xllamacpp") is None:
        pull = f"    pip install 'wherry[local]'      (a download of 110 MB)\n{pull}"
    if free is not None:
        lines.append(f"    (free now: {gigabytes(free)} of memory)")
    return "\n".join(
        [
            error.message.split("\n")[0].rstrip(":") + ".",
            "",
            "1. On this machine: free of charge, needs no account; runs on the processor.",
            *lines,
            pull,
            "",
            "2. OpenAI: no download, no memory; paid per token, and what the agents read goes there.",
            "    export OPENAI_API_KEY=...",
            "    wherry run TASK --model openai/gpt-4o-mini",
            "",
            "3. A server that speaks the OpenAI protocol (vLLM, llama.cpp, LM Studio, TGI, SGLang):",
            "   what it costs in download and memory, it costs there.",
            "    wherry run TASK --model http://127.0.0.1:8080/v1#NAME",
            "",
            "4. Ollama: download and memory are those of the model that you pull there, from about 1 GB.",
            "    ollama pull qwen2.5-coder:1.5b",
            "    wherry run TASK --model ollama/qwen2.5-coder:1.5b",
        ]
    )
