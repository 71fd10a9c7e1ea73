r"""Text from outside, made harmless to read for a model.

`escape` breaks the control tokens of the model that is asked. Text from the web, from mails and from others' files gets
more: what people cannot see and models can is taken out (zero-width and bidirectional characters, the tag characters
that spell whole sentences invisibly, private-use planes, terminal escapes, scripts and comments of pages), the control
tokens of every known family are broken, whatever model reads it, and lines that open a turn in templates without such
tokens (`### Instruction:`, `ASSISTANT:`) are quoted. Every pass is linear in the length of the text.

What it does not do: tell a true sentence from a lie, or an instruction from a report of one. Nothing that reads text
does that reliably; hence the fence around it, and the sinks that it cannot reach (`wherry.policy.taint`).
"""

from __future__ import annotations

import re

from wherry.context.escape import escape
from wherry.models.families import UNKNOWN

SCRIPT_REMOVED = "[script removed]"
COMMENT_REMOVED = "[comment removed]"

CONTROL_TOKENS: tuple[str, ...] = tuple(
    dict.fromkeys(
        (
            *UNKNOWN.control_tokens,
            # Tokens of their own in the vocabularies of Qwen, StarCoder, SmolLM, Gemma 3, GLM, Falcon and Granite; what
            # the templates of tool callers put around calls, results and thoughts.
            *("<think>", "</think>", "<tools>", "</tools>", "<tool>", "</tool>", "<tool_result>", "</tool_result>"),
            *("<function_calls>", "</function_calls>", "<function_results>", "</function_results>"),
            *("<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<file_sep>", "<repo_name>", "<reponame>"),
            *("<filename>", "<gh_stars>", "<issue_start>", "<issue_comment>", "<issue_closed>", "<empty_output>"),
            *("<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>", "<jupyter_script>"),
            *("<start_of_image>", "<end_of_image>", "<start_of_audio>", "<unk>", "<pad>", "<mask>", "<sop>", "<eop>"),
            *("[gMASK]", "[sMASK]", "[MASK]", "[CLS]", "[SEP]", "[IMG]", "[IMG_END]", "[IMG_BREAK]", "[PREFIX]"),
            *("[SUFFIX]", "[MIDDLE]", "[TOOL_CONTENT]", "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]", "[AUDIO]"),
            *("<function=", "</function>", "<parameter=", "</parameter>", "]~b]", "]~!b[", "[e~["),
            # Gemma's of one bar; of GLM, MiniMax, Nemotron, LongCat, Ling, Apriel and DeepSeek where they call tools;
            # beginnings of whole rows of tokens that are reserved, and that templates use all the same.
            *("<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think>", "<|tool>", "<tool|>", "<|tool_call>"),
            *("<tool_call|>", "<|tool_response>", "<tool_response|>", "<arg_key>", "</arg_key>", "<arg_value>"),
            *("</arg_value>", "<minimax:", "</minimax:", "<longcat_", "</longcat_", "<seed:", "</seed:", "<TOOLCALL>"),
            *("</TOOLCALL>", "<AVAILABLE_TOOLS>", "</AVAILABLE_TOOLS>", "<TOOL_RESPONSE>", "</TOOL_RESPONSE>"),
            *("<role>", "</role>", "[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]", "[MODEL_SETTINGS]", "<｜DSML｜"),
            *("</｜DSML｜", "<extra_id_", "<unused", "<reserved_", "<SPECIAL_", "[UNUSED_TOKEN_"),
            *("[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]", "<seed:bos>", "<seed:eos>"),
        )
    )
)
"""Of every family that is known, for text that no model should ever obey."""

# Escape sequences of terminals as wholes, so that nothing of them is left behind.
_TERMINAL = re.compile(r"\x1b(?:\[[0-9;:<=>?]{0,64}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,512}(?:\x07|\x1b\\)|[@-Z\\^_])")
_LINES = re.compile("\r\n?|[\u0085\u2028\u2029]")
_UNSEEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f"  # fillers, soft and zero-width
    "\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ufdd0-\ufdef\ufffe\uffff"  # directions, byte order marks
    "\ue000-\uf8ff"  # private use, as the planes below
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"  # tag characters and variation selectors: whole texts are hidden in them
    "\U000f0000-\U0010ffff"  # private use: of no meaning to anybody who does not smuggle
    "]"
)
_UNSEEN_ASCII = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
# Of one alone Persian, Indic scripts and emoji have need; of several in a row, or beside ASCII, only who hides bits.
_JOINERS = re.compile(
    "[\u200c\u200d]{2,}|(?:^|(?<=[\x00-\x7f]))[\u200c\u200d]|[\u200c\u200d](?=[\x00-\x7f]|$)"
    '|[\ufe00-\ufe0f]{2,}|(?:^|(?<=[\x00-"$-)+-/:-\x7f]))[\ufe00-\ufe0f]'
)
_HIDDEN = (
    (re.compile(r"(?i)<script\b"), re.compile(r"(?i)</script\s{0,64}>"), SCRIPT_REMOVED),
    (re.compile(r"(?i)<style\b"), re.compile(r"(?i)</style\s{0,64}>"), ""),
    (re.compile("<!--"), re.compile("--!?>"), COMMENT_REMOVED),
)
"""What begins it, what ends it, and what is put in its place."""
_SCRIPT_URL = re.compile(r"(?i)\b((?:java|vb)script|data:text/html)(?=\s*[:,;])")
_IMAGE = re.compile(r"!(?=\[[^\]\n]{0,500}\]\()")
"""A picture of Markdown: whoever shows it fetches it, and so tells its server that, and what its address holds."""
_LOOKALIKES = re.compile(r"[＜﹤‹〈⟨《［【](?=\s?[|｜∣ǀ│¦/]|\s?/?(?:INST|SYS|s|im_|start_|end_)\b)|<(?=[∣ǀ│¦])")
_OPENER = re.compile(
    r"(?im)^[ \t]*(?=#{2,6}[ \t]*(?:instructions?|responses?|system|user|human|assistant|input|output|observation)"
    r"[ \t]*(?:prompt|message)?[ \t]*:?[ \t]*$"
    r"|#{2,6}[ \t]*(?:instructions?|responses?|system|user|human|assistant)[ \t]*(?:prompt|message)?[ \t]*:"
    r"|(?:\*\*|__)?(?:system|user|human|assistant|ai|developer|tool|observation)"
    r"(?:[ \t]+(?:prompt|message))?(?:\*\*|__)?[ \t]*:)"
)


def sanitised(text: str) -> str:
    """`text` without what cannot be seen, without scripts, and with nothing in it that opens a turn in any template.

    Doing it twice does nothing more. Sentences stay as they are, those that tell the reader what to do too.
    """
    if "\x1b" in text:
        text = _TERMINAL.sub("", text)
    if not text.isascii() or "\r" in text:
        text = _LINES.sub("\n", text)
    if text.isascii():
        text = _UNSEEN_ASCII.sub("", text)  # a tenth of the time that the whole class takes
    else:
        text = _UNSEEN.sub("", text)
        text = _JOINERS.sub("", text)
        text = _LOOKALIKES.sub(lambda found: f"{found[0]} ", text)
    if "<" in text:
        for begin, end, mark in _HIDDEN:
            text = _without(text, begin, end, mark)
    if "cript" in text or "data:text" in text or "CRIPT" in text or "DATA:" in text:
        text = _SCRIPT_URL.sub(r"\1 ", text)
    if "![" in text:
        text = _IMAGE.sub("", text)
    text = _OPENER.sub("> ", text)
    return escape(text, CONTROL_TOKENS)


def _without(text: str, begin: re.Pattern[str], end: re.Pattern[str], mark: str) -> str:
    """Ends are looked for from their beginnings on; what has none goes to the end of the text, as in browsers."""
    found = begin.search(text)
    if found is None:
        return text
    parts: list[str] = []
    position = 0
    while found is not None:
        parts += (text[position : found.start()], mark)
        closing = end.search(text, found.end())
        if closing is None:
            return "".join(parts)
        position = closing.end()
        found = begin.search(text, position)
    return "".join((*parts, text[position:]))
