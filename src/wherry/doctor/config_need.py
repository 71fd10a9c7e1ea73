"""How much memory a model takes that comes as a Hugging Face folder: `config.json` and safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, cast

from wherry.doctor.need import Layers, MemoryNeed, Setting
from wherry.errors import ModelFileError

Config: TypeAlias = "Mapping[str, Any]"  # Any: JSON

ACTIVATION_TOKENS = 2048
"""Tokens that vLLM computes at a time (`max_num_batched_tokens`, its default for a small server)."""
ENGINE = 1_000_000_000
"""What PyTorch and the engine's own process take; an estimate."""
_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "float8_e4m3fn": 1.0, "int8": 1.0}


def config_need(path: Path, setting: Setting) -> MemoryNeed:
    """The memory that a folder's model takes in vLLM or transformers.

    Raises:
        ModelFileError: there is no config, or it is no language model's.
    """
    config, folder = read_config(path)
    wide = _BYTES.get(str(config.get("torch_dtype") or config.get("dtype") or "bfloat16"), 2.0)
    cache = setting if setting.cache_type != "f16" or wide <= 2 else replace(setting, cache_type="f32")
    hidden, inner = _number(config, "hidden_size", path), int(config.get("intermediate_size") or 0)
    buffers = ACTIVATION_TOKENS * int(wide) * (3 * inner + 5 * hidden)
    return MemoryNeed(
        weights=_weights(config, folder, wide, path),
        repacked=0,
        kv_cache=config_layers(config, path).cache_bytes(cache),
        buffers=buffers + int(config.get("vocab_size") or 0) * 4 * setting.slots,
        process=ENGINE,
    )


def read_config(path: Path) -> tuple[Config, Path]:
    """A model's config, of the language part where it has several, and its folder."""
    file = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise ModelFileError(f"there is no {file}", hint="give a GGUF file, or a folder with config.json") from None
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{file} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ModelFileError(f"{file} is no model's config: it holds no object")
    whole = cast("dict[str, Any]", config)
    inner = whole.get("text_config")
    return ({**whole, **inner} if isinstance(inner, dict) else whole), file.parent


def config_layers(config: Config, path: Path) -> Layers:
    """What a config says of its layers."""
    count, heads = _number(config, "num_hidden_layers", path), _number(config, "num_attention_heads", path)
    kv_heads = int(config.get("num_key_value_heads") or heads)
    latent = config.get("kv_lora_rank")
    if isinstance(latent, int) and latent:  # multi-head latent attention keeps one compressed vector a token
        return Layers([1] * count, latent, int(config.get("qk_rope_head_dim") or 0))
    size = int(config.get("head_dim") or _number(config, "hidden_size", path) // heads)
    window = config.get("sliding_window")
    windowed: Sequence[bool] = ()
    if isinstance(window, int) and window and config.get("use_sliding_window", True):
        windowed = _windowed(config, count)
    return Layers([kv_heads] * count, size, size, window if windowed else None, windowed)


def _windowed(config: Config, count: int) -> Sequence[bool]:
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return [kind == "sliding_attention" for kind in cast("list[object]", kinds)]
    every = config.get("sliding_window_pattern")
    if isinstance(every, int) and every:
        return [number % every < every - 1 for number in range(count)]
    return [True] * count  # the first Mistral: all layers


def _weights(config: Config, folder: Path, wide: float, path: Path) -> int:
    """Bytes of the weights: of the files where they are, else by the shapes that the config gives."""
    index = folder / "model.safetensors.index.json"
    try:
        said = json.loads(index.read_bytes())["metadata"]["total_size"]
        if isinstance(said, int) and said > 0:
            return said
    except (OSError, ValueError, LookupError, TypeError):
        pass  # no index, or none that says it: the files themselves tell
    for pattern in ("*.safetensors", "pytorch_model*.bin"):
        if found := sum(file.stat().st_size for file in folder.glob(pattern)):
            return found
    bits = _quantized_bits(config) or 8 * wide
    return int(_parameters(config, path) * bits / 8)


def _quantized_bits(config: Config) -> float | None:
    quantization = config.get("quantization_config")
    if not isinstance(quantization, dict):
        return None
    said = cast("dict[str, Any]", quantization)
    if isinstance(bits := said.get("bits"), int):
        return bits + 0.5  # with the scales of groups of 32 to 128
    if said.get("load_in_4bit"):
        return 4.5
    return 8.0 if said.get("load_in_8bit") or said.get("quant_method") == "fp8" else None


def _parameters(config: Config, path: Path) -> int:
    layers, hidden = _number(config, "num_hidden_layers", path), _number(config, "hidden_size", path)
    heads = _number(config, "num_attention_heads", path)
    size = int(config.get("head_dim") or hidden // heads)
    kv_heads = int(config.get("num_key_value_heads") or heads)
    inner = int(config.get("moe_intermediate_size") or config.get("intermediate_size") or 4 * hidden)
    experts = int(config.get("num_experts") or config.get("num_local_experts") or config.get("n_routed_experts") or 1)
    attention = hidden * size * (2 * heads + 2 * kv_heads)
    embeddings = int(config.get("vocab_size") or 0) * hidden * (1 if config.get("tie_word_embeddings") else 2)
    return embeddings + layers * (attention + 3 * hidden * inner * experts)


def _number(config: Config, key: str, path: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise ModelFileError(f"{path} does not say its {key}", hint="is it a language model's config.json?")
    return value
