"""How much memory a model takes that comes as a Hugging Face folder: `config.json` and safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, cast

from wherry.doctor.need import (
    EVERY_NTH_IS_FULL,
    MOST,
    MOST_LAYERS,
    MOST_TOKENS,
    Layers,
    MemoryNeed,
    Setting,
    all_but_every,
    whole,
)
from wherry.errors import ModelFileError

Config: TypeAlias = "Mapping[str, Any]"  # Any: JSON

ACTIVATION_TOKENS = 2048
"""Tokens that vLLM computes at a time (`max_num_batched_tokens`, its default for a small server)."""
ENGINE = 1_000_000_000
"""What PyTorch and the engine's own process take; an estimate."""
_OTHER_NAMES = {
    "n_layer": "num_hidden_layers", "n_layers": "num_hidden_layers", "num_layers": "num_hidden_layers",
    "n_head": "num_attention_heads", "n_heads": "num_attention_heads", "num_kv_heads": "num_key_value_heads",
    "n_embd": "hidden_size", "d_model": "hidden_size", "n_inner": "intermediate_size",
    "ffn_hidden_size": "intermediate_size", "n_positions": "max_position_embeddings",
    "max_seq_len": "max_position_embeddings", "padded_vocab_size": "vocab_size",
}  # fmt: skip
_DEFAULTS: Mapping[str, Config] = {
    "gemma3": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262_208,
               "sliding_window": 4096, "tie_word_embeddings": True},
    "gpt2": {"tie_word_embeddings": True, "vocab_size": 50_257},
}  # fmt: skip
"""What transformers takes where a config of that type leaves it out."""
_ALL_WINDOWED = frozenset({"mistral", "mixtral", "starcoder2", "phi3"})
"""Types in which all layers have the window that the config names."""
_LAST_WINDOWED = frozenset({"qwen2", "qwen2-moe", "qwen3", "qwen3-moe"})
"""Types in which the layers from `max_window_layers` on have it, if `use_sliding_window` is set."""
_WITHOUT_GATE = frozenset({"gpt2", "gpt-neox", "gptj", "gpt-bigcode", "falcon", "mpt", "opt", "bloom", "starcoder2"})
"""Types whose layers have two matrices behind the attention, not three."""
_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "float8_e4m3fn": 1.0, "int8": 1.0}


def config_need(path: Path, setting: Setting) -> MemoryNeed:
    """The memory that a folder's model takes in vLLM or transformers.

    Raises:
        ModelFileError: there is no config, or it is no language model's.
    """
    config, folder = read_config(path)
    wide = _BYTES.get(str(config.get("torch_dtype") or config.get("dtype") or "bfloat16"), 2.0)
    cache = setting if setting.cache_type != "f16" or wide <= 2 else replace(setting, cache_type="f32")
    hidden = _number(config, "hidden_size", path)
    inner = _said(config, "intermediate_size", path) or 4 * hidden
    buffers = ACTIVATION_TOKENS * int(wide) * (3 * inner + 5 * hidden)
    return MemoryNeed(
        weights=_weights(config, folder, wide, path),
        repacked=0,
        kv_cache=config_layers(config, path).cache_bytes(cache),
        buffers=buffers + _said(config, "vocab_size", path) * 4 * setting.slots,
        process=ENGINE,
    )


def read_config(path: Path) -> tuple[Config, Path]:
    """A model's config, of the language part where it has several, and its folder."""
    file = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise ModelFileError(f"there is no {file}", hint="give a GGUF file, or a folder with config.json") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{file} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ModelFileError(f"{file} is no model's config: it holds no object")
    whole_config = cast("dict[str, Any]", config)
    inner = whole_config.get("text_config")
    config = {**whole_config, **cast("dict[str, Any]", inner)} if isinstance(inner, dict) else whole_config
    for other, name in _OTHER_NAMES.items():
        if config.get(name) is None and config.get(other) is not None:
            config = {**config, name: config[other]}
    said = {key: value for key, value in config.items() if value is not None}
    return {**_DEFAULTS.get(_kind(config), {}), **said}, file.parent


def _kind(config: Config) -> str:
    """The type of a model, as llama.cpp writes it."""
    return str(config.get("model_type") or "").removesuffix("_text").replace("_", "-")


def config_layers(config: Config, path: Path) -> Layers:
    """What a config says of its layers."""
    count = _number(config, "num_hidden_layers", path, most=MOST_LAYERS)
    heads, kv_heads = _heads(config, path)
    if latent := _said(config, "kv_lora_rank", path):  # multi-head latent attention keeps one compressed vector a token
        return Layers([1] * count, latent, _said(config, "qk_rope_head_dim", path))
    size = _said(config, "head_dim", path) or _number(config, "hidden_size", path) // heads
    window = _said(config, "sliding_window", path, most=MOST_TOKENS)
    windowed = _windowed(config, count, path) if window else ()
    return Layers([kv_heads] * count, size, size, window if windowed else None, windowed)


def _heads(config: Config, path: Path) -> tuple[int, int]:
    """The number of attention heads, and of those that keep keys and values."""
    heads = _number(config, "num_attention_heads", path)
    kv_heads = _said(config, "num_key_value_heads", path)
    if config.get("multi_query") is True and not config.get("new_decoder_architecture"):
        kv_heads = 1
    return heads, kv_heads or heads


def _windowed(config: Config, count: int, path: Path) -> Sequence[bool]:
    """Per layer, whether it has the window; none has where nothing is known: rather told too much than too little."""
    kind, used = _kind(config), config.get("use_sliding_window")
    if used is False:
        return ()
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return [kind == "sliding_attention" for kind in cast("list[object]", kinds)]
    every = config.get("sliding_window_pattern")
    if isinstance(every, str):  # "LLLG": local and global layers
        return [every[number % len(every)] == "L" for number in range(count)] if every else ()
    if kind in _LAST_WINDOWED:
        first = _said(config, "max_window_layers", path) if used is True else count
        return [number >= first for number in range(count)]
    if kind in _ALL_WINDOWED:
        return [True] * count
    nth = whole(every, "sliding_window_pattern", path) or EVERY_NTH_IS_FULL.get(kind, 0)
    return all_but_every(nth, count)


def _weights(config: Config, folder: Path, wide: float, path: Path) -> int:
    """Bytes of the weights: of the files where they are, else by the shapes that the config gives."""
    index = folder / "model.safetensors.index.json"
    try:
        said = json.loads(index.read_bytes())["metadata"]["total_size"]
        if isinstance(said, int) and said > 0:
            return said
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass  # no index, or none that says it: the files themselves tell
    for pattern in ("*.safetensors", "pytorch_model*.bin"):
        if found := sum(file.stat().st_size for file in folder.glob(pattern)):
            return found
    return _by_shapes(config, wide, path)


def _by_shapes(config: Config, wide: float, path: Path) -> int:
    """Bytes of the weights by the shapes. Embeddings are not quantised; in MXFP4, the experts alone are."""
    layers, hidden = _number(config, "num_hidden_layers", path, most=MOST_LAYERS), _number(config, "hidden_size", path)
    heads, kv_heads = _heads(config, path)
    size = _said(config, "head_dim", path) or hidden // heads
    names = ("moe_intermediate_size", "intermediate_size")
    inner = next((found for name in names if (found := _said(config, name, path))), 4 * hidden)
    names = ("num_experts", "num_local_experts", "n_routed_experts")
    experts = next((found for name in names if (found := _said(config, name, path))), 0)
    attention = layers * hidden * size * (2 * heads + 2 * kv_heads)
    feeding = layers * (2 if _kind(config) in _WITHOUT_GATE else 3) * hidden * inner * max(experts, 1)
    vocabulary = _said(config, "vocab_size", path)
    embeddings = vocabulary * hidden * (1 if config.get("tie_word_embeddings") else 2)
    method, bits = _quantization(config, path)
    bits = bits or 8 * wide
    around = 8 * wide if method == "mxfp4" and experts else bits
    return int((embeddings * 8 * wide + attention * around + feeding * bits) / 8)


def _quantization(config: Config, path: Path) -> tuple[str, float | None]:
    """How the weights are quantised, and to how many bits each, with the scales; None: they are not."""
    quantization = config.get("quantization_config")
    if not isinstance(quantization, dict):
        return "", None
    said = cast("dict[str, Any]", quantization)
    method = str(said.get("quant_method") or "")
    if method == "mxfp4":
        return method, 4.25  # a scale of one byte for 32
    if said.get("bits") is not None:
        return method, _bits(said["bits"], "bits", path) + 0.5  # with the scales of groups of 32 to 128
    groups = said.get("config_groups")
    found = [
        _bits(weights["num_bits"], "config_groups.weights.num_bits", path) + (0.5 if weights.get("group_size") else 0)
        for weights in _group_weights(groups)
        if weights.get("num_bits") is not None
    ]
    if found:
        return method, max(found)
    if said.get("load_in_4bit"):
        return method, 4.5
    return method, 8.0 if said.get("load_in_8bit") or method in ("fp8", "fbgemm_fp8") else None


def _group_weights(groups: object) -> list[Mapping[str, Any]]:
    """What compressed-tensors says of the weights of each group of layers."""
    if not isinstance(groups, dict):
        return []
    each = [cast("dict[str, Any]", one) for one in cast("dict[str, object]", groups).values() if isinstance(one, dict)]
    return [cast("dict[str, Any]", one["weights"]) for one in each if isinstance(one.get("weights"), dict)]


def _bits(said: object, name: str, path: Path) -> float:
    """Bits of one weight: whole or not (EXL2 has 4.65), perhaps written as a text."""
    try:
        bits = float(said) if isinstance(said, str | int | float) and not isinstance(said, bool) else 0.0
    except (ValueError, OverflowError):
        bits = 0.0
    if not 1 <= bits <= 32:
        raise ModelFileError(f"{path} says that its quantization_config.{name} is {str(said)[:60]!r}")
    return bits


def _said(config: Config, key: str, path: Path, *, most: int = MOST) -> int:
    return whole(config.get(key), key, path, most=most)


def _number(config: Config, key: str, path: Path, *, most: int = MOST) -> int:
    if config.get(key) is None:
        raise ModelFileError(
            f"{path} does not say its {key}",
            hint="is it a language model's? One that leaves fields to transformers' defaults says too little: "
            "give the model's GGUF file instead",
        )
    return whole(config[key], key, path, least=1, most=most)
