"""What servers say when a request fails, and what it means."""
# ruff: noqa: E501  # servers write long sentences

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_answers import ANSWERS, IN_OTHER_WORDS

from wherry.errors import ModelError
from wherry.models import Failure, FailureKind, classify
from wherry.models.failure_numbers import wait_seconds

Case = dict[str, Any]


def test_every_recorded_answer_is_understood(acceptance: Path) -> None:
    cases: list[Case] = json.loads((acceptance / "backend_errors.json").read_text())["cases"]
    wrong: list[str] = []
    for case in cases:
        found = [classify(status=case["status"], body=case["body"], headers=case["headers"])]
        found.append(classify(status=case["status"], body=json.dumps(case["body"]).encode(), headers=case["headers"]))
        if case["status"] is None:
            found.append(classify(error=case["body"]))
            found.append(classify(error=RuntimeError(case["body"])))
        for failure in found:
            got = failure.to_json()
            expected = {"kind": case["want"]} | {k: case[k] for k in ("limit", "requested", "retry_after") if k in case}
            if any(got[key] != value for key, value in expected.items()):
                wrong.append(f"{case['id']}: want {expected}, got {got}")
    assert not wrong, "\n".join(wrong)
    assert len(cases) >= 51


def test_a_real_servers_records(acceptance: Path) -> None:
    folder = acceptance / "real_errors"

    def records(name: str) -> list[Case]:
        return [
            r for r in json.loads((folder / f"{name}.json").read_text())["records"] if "body" in r or "exception" in r
        ]

    def kinds(name: str) -> list[str]:
        return [
            str(
                classify(
                    status=r.get("status"), body=r.get("body"), headers=r.get("headers"), error=r.get("exception")
                ).kind
            )
            for r in records(name)
            if r.get("status") != 200
        ]

    for name in ("overflow_chat", "overflow_chat_stream", "overflow_completion", "overflow_anthropic_and_responses"):
        assert set(kinds(name)) == {"ContextOverflow"}, name
    assert kinds("auth") == ["Authentication"] * 2
    for name in (
        "bad_fields",
        "bad_grammar",
        "bad_json",
        "routes",
        "embeddings_disabled",
        "tool_call_output_unparseable",
    ):
        assert set(kinds(name)) == {"BadRequest"}, name
    assert kinds("client_timeout") == ["Timeout"]
    assert kinds("killed_mid_stream") == kinds("cgroup_oom_kill_mid_stream") == ["ConnectionLost"]
    failure = classify(status=400, body=records("overflow_chat")[0]["body"])
    assert (failure.limit, failure.requested) == (512, 1151)
    assert classify(error=records("killed_mid_stream")[0]["exception_while_reading"]).kind == "ConnectionLost"
    python_server = {r["what"]: r for r in records("llama_cpp_python_server")}
    assert classify(status=500, body=python_server["openai json_schema"]["body"]).kind == "BadRequest"
    assert classify(error=python_server["bad grammar"]["body"]).kind == "ConnectionLost"


@pytest.mark.parametrize(("kind", "status", "body", "more"), [*ANSWERS, *IN_OTHER_WORDS])
def test_what_servers_answer(kind: str, status: int | None, body: Any, more: dict[str, Any]) -> None:
    found = [classify(status=status, body=body)]
    if status is None:
        found += [classify(error=body), classify(error=RuntimeError(body))]
    elif not isinstance(body, str):
        found.append(classify(status=status, body=json.dumps(body).encode()))
    for failure in found:
        got = failure.to_json()
        assert got["kind"] == kind, failure.detail
        assert {key: got[key] for key in more} == pytest.approx(more, abs=0.01)


def test_a_models_error_is_understood_from_what_it_carries() -> None:
    told = ModelError("x", kind="ContextOverflow", diagnosis={"kind": "ContextOverflow", "limit": 4096})
    assert (Failure.of(told).kind, Failure.of(told).limit) == (FailureKind.ContextOverflow, 4096)
    words = ModelError("This model's maximum context length is 4096 tokens. However, you requested 5000 tokens")
    assert (Failure.of(words).kind, Failure.of(words).requested) == (FailureKind.ContextOverflow, 5000)
    asked = ModelError("slow down: try again in 7s", kind="RateLimited")
    assert (Failure.of(asked).kind, Failure.of(asked).retry_after) == (FailureKind.RateLimited, 7.0)
    assert Failure.of(ModelError("boom")).kind is FailureKind.ServerError
    assert Failure.of(ConnectionResetError()).kind is FailureKind.ConnectionLost


OVERFLOW, M, R, Q = "ContextOverflow", "OutOfMemory", "RateLimited", "QuotaExhausted"

# Other servers, and the same ones in other words, from their sources and manuals.
OVERFLOWS: list[tuple[int | None, Any, int | None, int | None]] = [
    (400, {"object": "error", "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length", "code": "3051"}, 32768, 40000),
    (400, {"message": "too many tokens: total number of tokens (prompt and prediction) cannot exceed 4081 - received 4500. Try using a shorter prompt, or a smaller max_tokens value."}, 4081, 4500),
    (400, {"error": {"message": "The prompt is too long: 205000, model maximum context length: 131071", "type": "invalid_request_error"}}, 131071, 205000),
    (400, {"error": {"message": "This model's maximum context length is 4096 tokens. However, your request has 4200 input tokens. Please reduce the length of the input messages.", "type": "BadRequestError", "code": 400}}, 4096, 4200),
    (400, {"error": {"message": "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context length is 4096 tokens and your request has 100 input tokens (5000 > 4096 - 100).", "type": "BadRequestError"}}, 4096, 5100),
    (422, {"detail": "Prompt length (5000) exceeds maximum input length (4096)."}, 4096, 5000),
    (400, {"message": "Too many input tokens. Max input tokens: 131072, request input token count: 140000"}, 131072, 140000),
    (413, {"error": {"message": "Request too large for model `llama-3.3-70b` in organization `org` service tier `on_demand` on tokens per minute (TPM): Limit 6000, Requested 7012, please reduce your message size and try again.", "type": "tokens", "code": "rate_limit_exceeded"}}, 6000, 7012),
    (413, "<html><head><title>413 Request Entity Too Large</title></head><body>nginx</body></html>", None, None),
    (413, {"type": "error", "error": {"type": "request_too_large", "message": "Request exceeds the maximum size of 33554432 bytes"}}, None, None),
    (500, {"error": {"message": "could not find a KV slot for the batch (try reducing the size of the batch or increase the context)"}}, None, None),
    (400, {"error": {"message": "The number of tokens to keep from the initial prompt is greater than the context length. Try to load the model with a larger context length"}}, None, None),
    (200, 'data: {"choices":[]}\n\ndata: {"error":{"code":400,"message":"request (4390 tokens) exceeds the available context size (4096 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":4390,"n_ctx":4096}}\n\n', 4096, 4390),
    (500, {"error": {"message": "litellm.ContextWindowExceededError: This model's maximum context length is 8,192 tokens. However, you requested 9,000 tokens"}}, 8192, 9000),
    (502, {"error": {"message": "Provider returned error", "code": 502, "metadata": {"raw": '{"error":{"message":"prompt is too long: 250,000 tokens > 200,000 maximum","type":"invalid_request_error"}}'}}}, 200000, 250000),
    (400, [{"error": {"code": 400, "message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048575).", "status": "INVALID_ARGUMENT"}}], 1048575, 1200000),
    (None, "Token indices sequence length is longer than the specified maximum sequence length for this model (5000 > 4096)", 4096, 5000),
    (None, "ValueError: This model has a maximum context length of 2048 tokens, but the prompt has 3000 tokens", 2048, 3000),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "limit", "requested"), OVERFLOWS)
def test_overflows_in_other_words(status: int | None, body: Any, limit: int | None, requested: int | None) -> None:
    failure = classify(status=status, body=body)
    assert (str(failure.kind), failure.limit, failure.requested) == (OVERFLOW, limit, requested), failure.detail


OTHERS: list[tuple[str, int | None, Any]] = [
    (M, 500, {"error": {"message": "model requires more system memory (5.6 GiB) than is available (3.1 GiB)"}}),
    (M, 500, {"error": "llama runner process has terminated: signal: killed"}),
    (M, 500, "CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    (M, 500, {"error": {"message": "failed to allocate compute buffers"}}),
    (M, 503, {"error": {"message": "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes."}}),
    (M, None, "std::bad_alloc"),
    (M, 500, {"message": "Background loop has errored already.", "type": "AsyncEngineDeadError"}),
    (M, 424, {"error": "Request failed during generation", "error_type": "generation"}),
    (M, 500, "ErrorOutOfDeviceMemory"),
    (R, 429, {"error": {"code": 429, "message": "You exceeded your current quota, please check your plan and billing details. Please retry in 27.3s.", "status": "RESOURCE_EXHAUSTED"}}),
    (R, 429, {"message": "Too many requests"}),
    (R, 400, {"__type": "com.amazon.coral.service#ThrottlingException", "message": "Rate exceeded, too many requests"}),
    (R, 429, ""),
    (R, 403, {"message": "API rate limit exceeded for user"}),
    (Q, 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."}}),
    (Q, 402, {"error": {"message": "Insufficient Balance", "type": "unknown_error"}}),
    (Q, 402, {"error": {"message": "This request requires more credits, or fewer max_tokens.", "code": 402}}),
    (Q, 403, {"error": {"message": "You have exceeded your monthly included credits", "type": "quota"}}),
    ("Authentication", 400, {"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}}),
    ("Authentication", 401, ""),
    ("Authentication", 403, "<html>Forbidden</html>"),
    ("Authentication", 401, {"error": {"message": "No auth credentials found", "code": 401}}),
    ("Overloaded", 503, {"message": "Service Unavailable"}),
    ("Overloaded", 503, {"error": "Model google/gemma is currently loading", "estimated_time": 20.0}),
    ("Overloaded", 500, {"error": {"message": "The engine is currently overloaded, please try later", "type": "server_error"}}),
    ("Overloaded", 503, "upstream connect error or disconnect/reset before headers. reset reason: connection failure"),
    ("Overloaded", 503, {"error": {"message": "server busy, please try again.  maximum pending requests exceeded"}}),
    ("Timeout", 408, ""),
    ("Timeout", 524, "<html>error code: 524</html>"),
    ("Timeout", None, "APITimeoutError: Request timed out."),
    ("ConnectionLost", None, "APIConnectionError: Connection error."),
    ("ConnectionLost", None, "ConnectionResetError: [Errno 104] Connection reset by peer"),
    ("ConnectionLost", None, "http.client.RemoteDisconnected: Remote end closed connection without response"),
    ("ConnectionLost", None, "httpx.ConnectError: [Errno -2] Name or service not known"),
    ("ContentFiltered", 403, {"error": {"code": 403, "message": "Your chosen model requires moderation and your input was flagged"}}),
    ("ContentFiltered", 200, {"error": {"code": "content_filter", "message": "stopped"}}),
    ("ContentFiltered", 400, {"message": "The input was blocked by a guardrail"}),
    ("BadRequest", 404, {"error": "model 'llama9' not found, try pulling it first"}),
    ("BadRequest", 400, {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "code": "unsupported_parameter"}}),
    ("BadRequest", 400, {"error": {"message": "max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas you provided 100000.", "param": "max_tokens", "code": "invalid_value"}}),
    ("BadRequest", 400, {"error": {"message": "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'.", "type": "invalid_request_error"}}),
    ("BadRequest", 400, {"error": {"message": "messages: roles must alternate between \"user\" and \"assistant\""}}),
    ("BadRequest", 500, {"error": {"code": 500, "message": "Failed to parse tool call arguments as JSON", "type": "server_error"}}),
    ("BadRequest", 500, {"error": {"code": 500, "message": "Cannot use both json_schema and grammar", "type": "server_error"}}),
    ("BadRequest", 422, {"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required"}]}),
    ("ServerError", 500, "Internal Server Error"),
    ("ServerError", 502, ""),
    ("ServerError", None, None),
    ("ServerError", 520, "<html>unknown</html>"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "body"), OTHERS)
def test_other_failures_in_other_words(kind: str, status: int | None, body: Any) -> None:
    failure = classify(status=status, body=body)
    assert str(failure.kind) == kind, failure.detail


def test_exceptions_are_read_with_their_causes() -> None:
    outer = RuntimeError("request failed")
    outer.__cause__ = ConnectionRefusedError(111, "Connection refused")
    assert classify(error=outer).kind is FailureKind.ConnectionLost
    assert classify(error=TimeoutError()).kind is FailureKind.Timeout
    assert classify(error=MemoryError()).kind is FailureKind.OutOfMemory
    assert classify(error=BrokenPipeError()).kind is FailureKind.ConnectionLost


def test_an_exception_carries_status_body_and_headers() -> None:
    class Response:
        headers: ClassVar = {"Retry-After": "7"}

    class RateLimitError(Exception):
        status_code = 429
        body: ClassVar = {"message": "slow down"}
        response = Response()

    failure = classify(error=RateLimitError("429"))
    assert (failure.kind, failure.retry_after, failure.status) == (FailureKind.RateLimited, 7.0, 429)


def test_a_botocore_answer() -> None:
    class ClientError(Exception):
        response: ClassVar = {"Error": {"Code": "ThrottlingException", "Message": "Too many tokens, please wait"}}

    assert classify(error=ClientError()).kind is FailureKind.RateLimited


@pytest.mark.parametrize(
    ("headers", "text", "seconds"),
    [
        ({"retry-after": "4.77"}, "", 4.77),
        ({"retry-after-ms": "250"}, "", 0.25),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, "", 30.0),
        ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-reset-requests": "20ms"}, "", 360.0),
        (
            {
                "x-ratelimit-reset-tokens": "6m0s",
                "x-ratelimit-reset-requests": "2s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-remaining-tokens": "500",
            },
            "",
            2.0,
        ),
        ({"anthropic-ratelimit-tokens-reset": "2026-01-01T00:00:12Z"}, "", 12.0),
        ({"x-ratelimit-reset": "1767225605000"}, "", 5.0),
        ({}, "Please try again in 1m12.5s.", 72.5),
        ({}, "Please try again in 2h3m. Need more tokens?", 7380.0),
        ({}, "try again in 250ms", 0.25),
        ({}, "Please retry after 30 seconds.", 30.0),
        ({}, "retry in 27.3s", 27.3),
        ({}, "no word of time", None),
        ({"retry-after": "soon"}, "", None),
    ],
)
def test_the_time_to_wait(headers: dict[str, str], text: str, seconds: float | None) -> None:
    now = 1_767_225_600.0  # 2026-01-01T00:00:00Z
    assert wait_seconds(headers, text, now=now) == (None if seconds is None else pytest.approx(seconds, abs=0.01))


def test_retry_after_comes_with_the_failure() -> None:
    assert classify(status=503, body="", headers={"Retry-After": "3"}).retry_after == 3.0
    assert classify(status=400, body={"error": "bad"}, headers={"Retry-After": "3"}).retry_after is None


def test_detail_is_short_and_plain() -> None:
    failure = classify(status=502, body="<html><script>x()</script><body><h1>502 Bad Gateway</h1></body></html>")
    assert failure.detail == "502 Bad Gateway"
    assert len(classify(status=500, body="x" * 100_000).detail) <= 500


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["error", "message", "code"]), inner),
    max_leaves=20,
)


@given(
    status=st.none() | st.integers(100, 599),
    body=json_values | st.binary(),
    headers=st.dictionaries(st.sampled_from(["retry-after", "x-ratelimit-reset-tokens", "x"]), st.text()),
    error=st.none() | st.text() | st.builds(RuntimeError, st.text()),
)
def test_nothing_makes_it_fail(status: int | None, body: Any, headers: dict[str, str], error: Any) -> None:
    failure = classify(status=status, body=body, headers=headers, error=error)
    assert isinstance(failure, Failure)
    assert failure.kind in FailureKind
    assert failure.requested is None or failure.limit is None or failure.requested >= failure.limit


@pytest.mark.slow
@given(limit=st.integers(512, 2_000_000), over=st.integers(1, 1_000_000))
def test_numbers_are_read_whatever_they_are(limit: int, over: int) -> None:
    requested = limit + over
    for text in (
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in {requested} tokens.",
        f"request ({requested} tokens) exceeds the available context size ({limit} tokens), try increasing it",
        f"prompt is too long: {requested:,} tokens > {limit:,} maximum",
        f"Requested tokens ({requested}) exceed context window of {limit}",
        f"The input ({requested} tokens) is longer than the model's context length ({limit} tokens).",
    ):
        failure = classify(status=400, body={"error": {"message": text}})
        assert (failure.kind, failure.limit, failure.requested) == (OVERFLOW, limit, requested), text
