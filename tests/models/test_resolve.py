"""From what a user writes to a model; and what loading the package costs."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from importlib.util import find_spec
from typing import Any, cast

import pytest

from wherry.errors import ConfigurationError, MissingExtra
from wherry.messages import Usage
from wherry.models import OpenAIModel, ScriptedModel, cost, model_from, parse_arguments
from wherry.models.pricing import listed_window


def openai(spec: str) -> OpenAIModel:
    model = model_from(spec)
    assert isinstance(model, OpenAIModel)
    return model


def test_a_model_is_a_model() -> None:
    model = ScriptedModel([])
    assert model_from(model) is model


def test_addresses() -> None:
    model = openai("http://127.0.0.1:8080/v1#my/model#2")
    assert (model.profile.name, model.base_url) == ("my/model#2", "http://127.0.0.1:8080/v1")
    assert openai("http://127.0.0.1:8080").base_url == "http://127.0.0.1:8080/v1"
    assert openai("https://host/").profile.name == ""
    assert openai("https://host/api/v3#x").base_url == "https://host/api/v3"


def test_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        model_from("openai/gpt-4o-mini")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    assert openai("openai/gpt-4o-mini").profile.price_key == "openai/gpt-4o-mini"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        (None, "http://127.0.0.1:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("box:9999", "http://box:9999/v1"),
        ("https://box", "https://box:443/v1"),
        ("[::1]:1234", "http://[::1]:1234/v1"),
    ],
)
def test_ollama(monkeypatch: pytest.MonkeyPatch, host: str | None, url: str) -> None:
    if host is not None:
        monkeypatch.setenv("OLLAMA_HOST", host)
    model = openai("ollama/qwen2.5:7b")
    assert (model.profile.name, model.base_url) == ("qwen2.5:7b", url)


@pytest.mark.parametrize(
    ("spec", "guess"),
    [
        ("", ""),
        ("  ", ""),
        ("gpt-4o-mini", "openai/gpt-4o-mini"),
        ("model.gguf", "local:model.gguf"),
        ("/models/x.gguf", "local:/models/x.gguf"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("localhost:8080/v1", "http://localhost:8080/v1"),
        ("openai/", ""),
        ("/x", ""),
        ("what is this", ""),
    ],
)
def test_nonsense_is_told_the_forms(spec: str, guess: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        model_from(spec)
    assert "PROVIDER/NAME" in str(caught.value)
    assert guess in str(caught.value)


@pytest.mark.parametrize("thing", [None, 5, ScriptedModel, object()])
def test_things_that_are_no_model(thing: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no model"):
        model_from(thing)


@pytest.mark.skipif(find_spec("litellm") is not None, reason="litellm is installed")
def test_other_providers_need_the_extra() -> None:
    with pytest.raises(MissingExtra) as caught:
        model_from("anthropic/claude-sonnet-4-5")
    assert caught.value.extra == "litellm"


def test_nothing_heavy_is_loaded_before_it_is_named() -> None:
    program = """if True:
        import sys, os
        before = dict(os.environ)
        import wherry.models
        from wherry.models import ScriptedModel, FunctionModel, model_from, FailureKind, ModelRequest
        heavy = {"openai", "httpx", "httpx2", "litellm", "genai_prices", "pydantic", "wherry.models.openai"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        from wherry.models import OpenAIModel
        model = OpenAIModel("m", base_url="http://127.0.0.1:1/v1")
        assert not (heavy - {"wherry.models.openai"}) & set(sys.modules)
        assert dict(os.environ) == before
    """
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_names_that_the_package_does_not_have() -> None:
    import wherry.models as package

    with pytest.raises(AttributeError, match="Nonsense"):
        _ = cast("Any", package).Nonsense
    assert set(package.__all__) <= set(dir(package))


# ---- prices


def test_prices() -> None:
    pytest.importorskip("genai_prices")
    usage = Usage(requests=1, input_tokens=1_000_000, cached_tokens=400_000, output_tokens=1_000_000)
    paid = cost(usage, "openai/gpt-4o-mini")
    assert paid is not None
    uncached = cost(Usage(input_tokens=1_000_000, output_tokens=1_000_000), "openai/gpt-4o-mini")
    assert uncached is not None
    assert Decimal(0) < paid < uncached
    assert cost(usage, "free") == Decimal(0)
    assert cost(usage, None) is None
    assert cost(usage, "openai/never-heard-of-it") is None
    assert cost(usage, "ollama/gpt-4o-mini") is None, "another provider's price is no price"
    assert cost(Usage(), "openai/gpt-4o-mini") == Decimal(0)
    assert listed_window("openai/gpt-4o-mini") == 128_000
    assert listed_window("never-heard-of-it") is None


# ---- arguments


@pytest.mark.parametrize(
    ("raw", "arguments"),
    [
        (None, {}),
        ("", {}),
        (" \n", {}),
        ("null", {}),
        ("{}", {}),
        ('{"a": "line\nbreak"}', {"a": "line\nbreak"}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ({"a": 1}, {"a": 1}),
    ],
)
def test_arguments(raw: object, arguments: dict[str, Any]) -> None:
    assert parse_arguments(raw) == arguments


@pytest.mark.parametrize("raw", ["{", "[]", "5", '"text"', '{"a": Infinity}', "{'a': 1}", "[" * 200_000])
def test_arguments_that_are_none(raw: str) -> None:
    parsed = parse_arguments(raw)
    assert parsed["__raw__"] == raw
    assert parsed["__error__"]
