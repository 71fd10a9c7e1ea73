"""What servers say of their window, kind by kind."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from playback_server import Answer, PlaybackServer, completion

from wherry.messages import Message
from wherry.models import ModelProfile, ModelRequest, OpenAIModel
from wherry.models import discovery as windows
from wherry.models.families import family_of


def prepared(server: PlaybackServer, name: str = "m", **options: Any) -> ModelProfile:
    return anyio.run(OpenAIModel(name, base_url=server.url, **options).prepare)


def models(*entries: dict[str, Any]) -> dict[str, Answer]:
    return {"/v1/models": Answer({"object": "list", "data": list(entries)})}


def test_llama_cpp_says_what_a_slot_has_not_what_was_trained(server: PlaybackServer) -> None:
    server.pages = models({"id": "model.gguf", "owned_by": "llamacpp", "meta": {"n_ctx_train": 32768}})
    server.pages["/props"] = Answer({"default_generation_settings": {"n_ctx": 4096}, "total_slots": 4})
    profile = prepared(server, "whatever")
    assert (profile.name, profile.window, profile.max_output) == ("whatever", 4096, 1024)


@pytest.mark.parametrize("key", ["max_model_len", "context_length", "context_window", "max_context_length"])
def test_lists_that_have_the_window(server: PlaybackServer, key: str) -> None:
    server.pages = models({"id": "other", key: 111}, {"id": "m", key: 65536})
    profile = prepared(server)
    assert (profile.window, profile.max_output) == (65536, 4096)
    assert len(server.seen) == 1


def test_ollama_says_what_runs(server: PlaybackServer) -> None:
    server.pages = models({"id": "m:latest", "owned_by": "library"}, {"id": "m2", "owned_by": "library"})
    server.pages["/api/ps"] = Answer({"models": [{"name": "m2", "context_length": 16384}]})
    assert prepared(server, "m2").window == 16384


@pytest.mark.parametrize(
    ("parameters", "trained", "window"),
    [
        ('stop "<|im_end|>"\nnum_ctx                        8192', 131072, 8192),
        ('stop "x"', 131072, 4096),
        (None, 2048, 2048),
    ],
)
def test_ollama_says_what_is_configured(
    server: PlaybackServer, parameters: str | None, trained: int, window: int
) -> None:
    server.pages = models({"id": "m", "owned_by": "library"})
    server.pages["/api/ps"] = Answer({"models": []})
    server.pages["/api/show"] = Answer({"parameters": parameters, "model_info": {"qwen2.context_length": trained}})
    model = OpenAIModel("m", base_url=server.url)

    async def twice() -> list[int | None]:
        first = (await model.prepare()).window
        # The first request loads the model, and then the server knows.
        server.pages["/api/ps"] = Answer({"models": [{"name": "m", "context_length": 32768}]})
        return [first, (await model.prepare()).window]

    assert anyio.run(twice) == [window, 32768]


def test_lm_studio_and_tgi(server: PlaybackServer) -> None:
    server.pages = models({"id": "m", "owned_by": "organization_owner"})
    loaded = {"id": "m", "max_context_length": 131072, "loaded_context_length": 8192}
    server.pages["/api/v0/models"] = Answer({"data": [loaded]})
    assert prepared(server).window == 8192
    server.pages = {"/info": Answer({"max_total_tokens": 3000, "max_input_tokens": 2000})}
    assert prepared(server).window == 3000


def test_lm_studio_since_0_4(server: PlaybackServer) -> None:
    server.pages = models({"id": "qwen/qwen3-4b", "owned_by": "organization_owner"})
    loaded = {"id": "qwen/qwen3-4b", "config": {"context_length": 16384, "parallel": 4}}
    unloaded: dict[str, Any] = {"key": "other", "loaded_instances": [], "max_context_length": 131072}
    server.pages["/api/v1/models"] = Answer(
        {"models": [unloaded, {"key": "qwen/qwen3-4b", "loaded_instances": [loaded], "max_context_length": 262144}]}
    )
    assert prepared(server, "qwen/qwen3-4b").window == 16384


def test_sglang_and_kobold_cpp(server: PlaybackServer) -> None:
    server.pages = models({"id": "m", "owned_by": "sglang"})
    server.pages["/get_server_info"] = Answer({"model_path": "m", "context_length": 20480})
    assert prepared(server).window == 20480
    server.pages = models({"id": "m", "owned_by": "koboldcpp"})
    server.pages["/api/extra/true_max_context_length"] = Answer({"value": 12288})
    assert prepared(server).window == 12288


def test_a_llama_cpp_router_is_asked_for_the_model(server: PlaybackServer) -> None:
    server.pages = models({"id": "org/m:Q4", "owned_by": "llamacpp"})
    server.pages["/props"] = Answer({"role": "router"})
    server.pages["/props?model=org%2Fm%3AQ4"] = Answer({"default_generation_settings": {"n_ctx": 6144}})
    assert prepared(server, "org/m:Q4").window == 6144


def test_the_name_is_asked_for(server: PlaybackServer) -> None:
    server.pages = models({"id": "Qwen2.5-7B", "max_model_len": 8192}, {"id": "second", "max_model_len": 1})
    server.play(completion())
    model = OpenAIModel("", base_url=server.url)
    anyio.run(model.complete, ModelRequest([Message("user", "x")]))
    assert server.bodies[0]["model"] == "Qwen2.5-7B"
    assert (model.profile.counter, model.profile.window) == ("qwen", 8192)


def test_asked_once(server: PlaybackServer) -> None:
    server.pages = models({"id": "m", "max_model_len": 8192})
    model = OpenAIModel("m", base_url=server.url)

    async def thrice() -> None:
        for _ in range(3):
            await model.prepare()

    anyio.run(thrice)
    assert len(server.seen) == 1


def test_the_users_word_is_enough(server: PlaybackServer) -> None:
    assert prepared(server, window=1234, max_output=99).window == 1234
    assert not server.seen


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        Answer("", 500),
        Answer("<html>", 404),
        Answer([1, 2]),
        Answer({"data": [{"id": "m", "max_model_len": "many"}, 5, None]}),
        Answer({"data": {"id": "m"}}),
        Answer("", ending="reset", declared=5),
    ],
)
def test_nothing_to_be_found_out_is_no_failure(server: PlaybackServer, page: Answer) -> None:
    server.pages = {"/v1/models": page}
    assert prepared(server).window is None


def test_a_server_that_does_not_answer_costs_little(server: PlaybackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "SECONDS", 0.2)
    server.pages = {"/v1/models": Answer("", ending="stall", declared=10)}
    assert prepared(server).window is None
    assert server.gone.wait(5)


def test_no_server_is_no_failure_yet() -> None:
    with PlaybackServer() as server:
        url = server.url
    assert anyio.run(OpenAIModel("m", base_url=url).prepare).window is None


@pytest.mark.parametrize(
    ("name", "counter"),
    [
        ("gpt-4o-mini", "o200k"),
        ("openai/gpt-4.1", "o200k"),
        ("gpt-5-nano", "o200k"),
        ("o3-mini", "o200k"),
        ("openai/gpt-oss-20b", "o200k"),
        ("gpt-4-turbo", "cl100k"),
        ("gpt-3.5-turbo", "cl100k"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3"),
        ("llama3.2:3b", "llama3"),
        ("Qwen2.5-Coder-1.5B-Instruct-Q4_K_M.gguf", "qwen"),
        ("llama-2-7b", "bytes"),
        ("mystery", "bytes"),
        ("", "bytes"),
    ],
)
def test_families(name: str, counter: str) -> None:
    assert family_of(name).counter == counter


def test_control_tokens_of_families() -> None:
    assert "<|im_start|>" in family_of("qwen2.5").control_tokens
    assert "<|eot_id|>" in family_of("llama-3.1").control_tokens
    assert {"<|im_start|>", "<|start_header_id|>"} <= set(family_of("mystery").control_tokens)
