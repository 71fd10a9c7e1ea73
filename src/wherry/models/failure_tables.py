"""The words that tell failures apart: codes, texts and statuses, with the servers that say them.

Patterns speak of what is said rather than who says it, so that the next server's wording is understood too.
"""
# ruff: noqa: E501  # a pattern on one line can be searched for

from __future__ import annotations

import re

from wherry.models.failure_kind import FailureKind

# Short names, so that the tables can be read down.
Overflow = FailureKind.ContextOverflow
Memory = FailureKind.OutOfMemory
Rate = FailureKind.RateLimited
Quota = FailureKind.QuotaExhausted
Overloaded = FailureKind.Overloaded
Timeout = FailureKind.Timeout
Lost = FailureKind.ConnectionLost
Auth = FailureKind.Authentication
Bad = FailureKind.BadRequest
Filtered = FailureKind.ContentFiltered


Texts = tuple[tuple[FailureKind, re.Pattern[str]], ...]


def _texts(*rows: tuple[FailureKind, str]) -> Texts:
    return tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in rows)


# 0. The bound of the output: what is wrong is a parameter, unless there was no room left for any output at all.
OUTPUT_BOUND: Texts = _texts(
    (Overflow, r"max_\w*tokens`?'? must be (at least|greater than)\b.{0,20}\bgot:? -\d"),  # vLLM: window less prompt
    (
        Bad,
        r"(?<!\+ )(?<!\+ [`'\"])[`'\"]?max_\w*tokens[`'\"]? (must|should) be\b|max_\w*tokens: \d+ > \d+, which is the maximum",
    ),
    (Bad, r"maximum (output |completion )?tokens (you )?requested exceeds"),
)

# 1. The shape of the request, filters and keys: words that nothing else says.
SHAPE_AND_KEYS: Texts = _texts(
    (
        Filtered,
        r"content[ _-]?(management )?(policy|filter)|responsibleai|safety (system|settings|filter)|moderation|inappropriate content",
    ),
    (Filtered, r"(prompt|input|response|output|request) (was|has been|were) (blocked|flagged|filtered)|guardrail"),
    # OpenAI, Azure: 'Invalid 'user': string too long. Expected a string with maximum length 64' is no overflow.
    (Bad, r"(string|array) too (long|short)|expected an? (string|array|object)"),
    (
        Bad,
        r"messages? with role|role'?s? must alternate|(must|should) (be|start|end) (with|a response to)\b.*\b(role|tool)",
    ),
    (Bad, r"tool_call_ids?\b|tool_use[`' ]*ids?\b|tool_result|preceed?ing message with|function response (turn|parts)"),
    (Bad, r"(unknown|unrecognized|unsupported|invalid|extra) (parameter|argument|field|schema|value|inputs?\b)"),
    (Bad, r"missing required (parameter|argument|field)"),
    (Bad, r"(is|are) not (permitted|supported)|does not support|invalid schema|validation errors?:"),
    # llama.cpp 2026.10: a 500 for its own parser, and json.exception texts for bad fields.
    (Bad, r"grammar|json\.exception|unable to generate parser|does not match the expected|chat template|jinja"),
    # OpenAI and Anthropic: more output than the model ever gives. A shorter prompt would not help.
    (Bad, r"supports at most [\d,]+ completion tokens|maximum allowed number of output tokens"),
    (Auth, r"(incorrect|invalid|missing|wrong|expired|revoked|no|bad) (api[ _-]?key|credentials?|access token|bearer)"),
    (Auth, r"api[ _-]?key (is |was )?(not valid|invalid|missing|required|expired|not found|incorrect)|api_key_invalid"),
    (Auth, r"\bunauthori[sz]ed\b|not authori[sz]ed|authentication (failed|required|error)|accessdenied|access denied"),
)
# "Input validation error: `inputs` must have less than ..." is TGI's overflow, and "functions" is in OpenAI's: a text
# that speaks of a window is not about the request's shape.
WINDOW = re.compile(
    r"context[ _-]?(length|window|size|limit)|(prompt|input|request)s?\b.{0,60}\b(exceeds?|longer than|too long)\b"
    r"|max_new_tokens|`?inputs`? must have|maximum (input|prompt|model|sequence) length|max input tokens|tokens? allowed|input token count",
    re.IGNORECASE,
)

# 2. Codes that a machine wrote, whole words in lower case.
CODES: tuple[tuple[FailureKind, frozenset[str]], ...] = (
    (Filtered, frozenset({"content_filter", "content_policy_violation", "content_filtered", "responsibleaipolicyviolation",
                          "safety", "prohibited_content", "blocklist", "contentpolicyviolationerror"})),
    (Auth, frozenset({"invalid_api_key", "authentication_error", "permission_error", "permission_denied", "unauthenticated",
                      "unauthorized", "accessdeniedexception", "unrecognizedclientexception", "expiredtokenexception",
                      "invalid_authentication", "api_key_invalid"})),
    (Overflow, frozenset({"context_length_exceeded", "exceed_context_size_error", "context_window_exceeded",
                          "model_context_window_exceeded", "contextwindowexceedederror", "request_too_large",
                          "max_context_length_exceeded", "prompt_too_long"})),
    (Memory, frozenset({"enginedeaderror", "asyncenginedeaderror", "out_of_memory", "outofmemoryerror", "memoryerror"})),
    (Quota, frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_credits",
                       "insufficient_balance", "quota_exceeded", "billing_error", "credit_balance_too_low",
                       "servicequotaexceededexception"})),
    (Overloaded, frozenset({"overloaded_error", "overloaded", "unavailable_error", "unavailable", "engine_overloaded",
                            "server_busy", "service_unavailable", "serviceunavailableexception",
                            "modelnotreadyexception", "model_loading", "capacity_exceeded"})),
    (Rate, frozenset({"rate_limit_exceeded", "rate_limit_error", "rate_limited", "throttlingexception", "throttling",
                      "too_many_requests", "tokens_per_minute", "requests_per_minute"})),
    (Timeout, frozenset({"timeout_error", "deadline_exceeded", "request_timeout", "modeltimeoutexception"})),
    (FailureKind.ServerError, frozenset({"modelerrorexception"})),  # Bedrock says it with TGI's 424
    (Bad, frozenset({"model_not_found", "string_above_max_length", "array_above_max_length", "invalid_value",
                     "unsupported_parameter", "unknown_parameter", "not_supported_error", "unsupported_value",
                     "not_found_error", "invalid_type", "missing_required_parameter", "invalid_function_parameters"})),
)  # fmt: skip

# Codes of servers that are not known, by the words in them. A code has no blanks: what has is a sentence.
CODE_WORDS: Texts = _texts(
    (Filtered, r"content_?(filter|policy)|moderation|prohibited"),
    (Memory, r"out_?of_?memory|(^|_)oom|engine_?dead"),
    (Overflow, r"context_?(length|window|size)|(prompt|input|request)_?too_?(long|large)"),
    (Rate, r"rate_?limit|throttl|too_?many"),
    (Quota, r"quota|budget|billing|insufficient_?(credit|balance|fund)"),
    (Overloaded, r"overload|capacity|_busy|not_?ready"),
    (Auth, r"unauthori[sz]|permission|api_?key|access_?denied|expired_?token"),
    (Timeout, r"time_?out|deadline"),
    (Bad, r"not_?found|tool_use_failed|json_validate_failed|unsupported_?(param|value|model)"),
)

# 3. Texts.
TEXTS: Texts = _texts(
    # torch, CUDA, HIP, Metal, Vulkan, ggml, JAX, the C++ and Python runtimes, the kernel's OOM killer.
    (Memory, r"out[ _-]?of[ _-]?(device|host|gpu)?[ _-]?memory|\boom\b|(cuda|hip|sycl|vk)\w*malloc\w* failed"),
    (Memory, r"bad_alloc|memoryerror|alloc_failed|(cannot|could not|unable to|fail\w* to) alloc|alloc\w*\b.{0,80}\bfail"),
    (Memory, r"(more|insufficient|not enough|no available) (system |gpu |device |host |free )?memory"),
    (Memory, r"signal: killed|exit (code|status):? -?(9|137)\b|oom[_-]?kill"),
    # Ollama, LM Studio: a runner that died, of what it does not know. Memory is the usual cause.
    (Memory, r"(runner|engine|worker|model)( process)? (has |was )?(unexpectedly )?(stopped|terminated|crashed|died)\b"),
    (Memory, r"resource limitations|insufficient system resources"),
    # vLLM's engine, dead: memory is the usual cause.
    (Memory, r"enginecore|engine (process )?(is |has )?(dead|died)|enginedead|background loop (has errored|is not running)"),
    # Groq, Gemini and Bedrock say tokens, prompt or quota here, and mean wait.
    (Rate, r"rate[ _-]?limit|too many requests|throttl|(per|a)[ _-](minute|second|hour|day)(\b|_)|\b[rt]p[mds]\b.{0,20}\blimit"),
    (Rate, r"please wait|retry in \d|try again (in \d|later)"),
    (Quota, r"(exceeded|reached|over|out of|no) ((your|the|more|any) )?(\w+ ){0,2}(quota|credits?|balance|budget)\b"),
    (Quota, r"quota (is |has been |was )?(used up|exhausted|exceeded|reached)"),
    (Quota, r"balance (is )?(too low|insufficient)|(insufficient|not enough|more) (credits?|balance|funds?|quota)"),
    (Quota, r"billing|payment required|(usage|spending|monthly) limits?\b|(n't|not) have (any|enough) credits?"),
    (Quota, r"\bbudget\b.{0,20}\bexceeded|exceed\w* .{0,30}\b(service quota|included credits)"),
    (Overloaded, r"overload|(server|service|model|engine|worker|instance|gpu)s?\b.{0,30}\b(busy|unavailable|at capacity|starting)"),
    (Overloaded, r"too busy|over capacity|queue is full|pending requests|reset reason: overflow"),
    (Overloaded, r"loading model|model .{0,60}is (currently )?loading"),
    (Overloaded, r"no (healthy|available) (upstream|server|worker|deployment)"),
    (Overflow, r"context[ _-]?(length|window|size|limit|overflow)\b|maximum context|(kv|memory) slot"),
    (Overflow, r"(does not|doesn't|do not|will not|won't|cannot|can't) fit\b|tokens\b.{0,40}\bmore than\b|\bmax_\w*len(gth)?\b"),
    (Overflow, r"(prompt|input|sequence|request|message|conversation|chat|history)s?\b[^.]{0,80}\b(too (long|large|big)|longer than|exceed)"),
    (Overflow, r"(exceed|longer than|greater than|larger than|over)\w*[^.]{0,60}\b(model|input|prompt|sequence|token)s?"
               r"[^.]{0,20}\b(length|limit|maximum|allowed)"),
    (Overflow, r"max(imum)? (input|prompt|model|sequence) (length|tokens)|max_new_tokens|`inputs` must have"),
    (Overflow, r"token count\b[^.]{0,40}\bonly supports|\bn_ctx\b|too big compared to kv|kv size"),
    (Overflow, r"too many (\w+ )?tokens|tokens?\b[^.]{0,40}\bexceed|reduce the (length|number|size) of|current length is"),
    (Overflow, r"(payload|body|entity|content)[^.]{0,30}(too large|exceeds)"),
)  # fmt: skip
NETWORK: Texts = _texts(
    (Timeout, r"tim(ed|e)[ -]?out|\betimedout\b|deadline exceeded|took too long"),
    (
        Lost,
        r"connect\w* (error|refused|reset|aborted|closed|lost|failed|broken)|connection attempts failed|connectionerror",
    ),
    (
        Lost,
        r"peer closed|closed connection|connection (was |has been )?(forcibly )?closed|incomplete|disconnect|broken pipe",
    ),
    (Lost, r"remoteprotocol|(read|write|connect)error|(cannot|could not|unable to|failed to) connect|went away"),
    (Lost, r"name or service not known|name resolution|getaddrinfo|no route to host|network is unreachable"),
    (Lost, r"\be(connreset|connrefused|connaborted|notfound|pipe|netunreach|hostunreach|ai_again)\b|h[au]ng up"),
    (Lost, r"\beof\b|unexpected end of stream|error reading from server|connection termination"),
)
SERVER_TALKS_OF_TOOLS = re.compile(
    r"\btools?\b|tool_c|grammar|pars(er|ing|e error)|json_schema|response_format", re.IGNORECASE
)
WAIT_ASKED = re.compile(r"(retry|try again|available|resets?) (in|after) \d|retry-after", re.IGNORECASE)

# 4. The status, when nothing else spoke.
STATUS = {
    401: Auth, 402: Quota, 403: Auth, 407: Auth, 408: Timeout, 409: FailureKind.ServerError,
    413: Overflow,  # a body of too many bytes: fewer tokens are fewer bytes
    424: Memory,  # TGI, when a generation failed in the GPU
    425: Overloaded, 429: Rate, 498: Overloaded, 499: Lost, 501: Bad, 503: Overloaded,
    504: Timeout, 521: Lost, 522: Lost, 523: Lost, 524: Timeout, 529: Overloaded,
}  # fmt: skip
