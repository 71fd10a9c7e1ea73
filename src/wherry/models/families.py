"""What a model's name gives away: its tokenizer, its control tokens, what it can do."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """Models that share a tokenizer and a chat template."""

    counter: str = "bytes"
    """A tokenizer family, or `"bytes"`."""
    control_tokens: tuple[str, ...] = ()
    _: KW_ONLY
    images: bool = False
    reasoning: bool = False
    """Whether it thinks in output tokens before it answers, which the bound of its output has to allow for."""


CHATML = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    # Qwen's and Hermes': calls are read from the text, and results stand in users' turns.
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
)
LLAMA3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<|python_tag|>")
HARMONY = ("<|start|>", "<|message|>", "<|end|>", "<|channel|>", "<|call|>", "<|return|>", "<|constrain|>")
GEMMA = ("<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>")
MISTRAL = (
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "[TOOL_CALLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
)
PHI = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>")
DEEPSEEK = (
    "<｜User｜>",
    "<｜Assistant｜>",
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜tool▁calls▁begin｜>",
)

UNKNOWN = Family("bytes", tuple(dict.fromkeys((*CHATML, *LLAMA3, *HARMONY, *GEMMA, *MISTRAL, *PHI, *DEEPSEEK))))
"""A model of no known family: it may have the template of any."""

# Sources: the models' tokenizer_config.json and chat templates; for OpenAI's, tiktoken's model table (November 2026).
_FAMILIES: tuple[tuple[re.Pattern[str], Family], ...] = tuple(
    (re.compile(pattern), family)
    for pattern, family in (
        (r"gpt-oss", Family("o200k", HARMONY, reasoning=True)),
        (r"\bgpt-(5|6)", Family("o200k", images=True, reasoning=True)),
        (r"\bo[1345](-|$|:)", Family("o200k", images=True, reasoning=True)),
        (r"\b(gpt-4o|chatgpt-4o|gpt-4\.[1-9])", Family("o200k", images=True)),
        (r"\bgpt-(4|3\.5)", Family("cl100k")),
        (r"qwen[\d.]*-?(vl|omni)", Family("qwen", CHATML, images=True)),
        (r"qwq|qwen-?3|qwen3", Family("qwen", CHATML, reasoning=True)),
        (r"qwen", Family("qwen", CHATML)),
        (r"deepseek-r\d.*llama", Family("llama3", DEEPSEEK, reasoning=True)),
        (r"deepseek", Family("bytes", DEEPSEEK, reasoning=True)),
        (r"llama-?(4|3\.2.*vision)", Family("bytes", LLAMA3, images=True)),
        (r"llama-?3", Family("llama3", LLAMA3)),
        (r"gemma", Family("bytes", GEMMA)),
        (r"m[ia]stral|mixtral|codestral|devstral|llama-?2", Family("bytes", MISTRAL)),
        (r"\bphi-?\d", Family("bytes", PHI)),
        (r"smollm|hermes|\byi-|internlm|chatml", Family("bytes", CHATML)),
        (r"claude|gemini", Family("bytes", images=True)),
    )
)


def family_of(name: str) -> Family:
    """The family that a model's name speaks of, whatever prefix (`openai/`) and suffix (`:q4`, `.gguf`) it has."""
    text = name.lower().replace("_", "-")
    return next((family for pattern, family in _FAMILIES if pattern.search(text)), UNKNOWN)
