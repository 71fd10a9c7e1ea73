"""How much memory a model takes, told before anything is loaded.

The formulas are llama.cpp's own sizes, written down on 2026-11-21 for its release b11549 (xllamacpp 2026.10) and
checked against what it reports when it loads (`load_tensors`, `llama_kv_cache`, `sched_reserve`). For a Hugging Face
folder, as vLLM and transformers load it, weights and KV cache are as exact; the buffers are an estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import cast

from wherry.errors import ConfigurationError, ModelFileError
from wherry.models.local.gguf import GGUFInfo

CACHE_BITS = {
    "f32": 32.0, "f16": 16.0, "bf16": 16.0, "q8_0": 8.5, "q5_1": 6.0, "q5_0": 5.5, "q4_1": 5.0, "q4_0": 4.5,
    "iq4_nl": 4.5,
}  # fmt: skip
"""Bits that one number of the KV cache takes, by the cache's type."""
MICRO_BATCH = 512
"""Tokens that llama.cpp computes at a time (`--ubatch-size`, its default)."""
REPACKED = frozenset({2, 12, 20})
"""Tensor types that llama.cpp keeps a second, rearranged copy of on a CPU: Q4_0, Q4_K, IQ4_NL (ggml-cpu/repack.cpp).
The type numbers are those of `enum ggml_type`."""
PROCESS = 90_000_000
"""What the server's process takes beside the buffers: interpreter, libraries, vocabulary. Measured on 2026-11-21."""
_PADDED = 256
"""Cells of a sliding-window cache are padded to a multiple of this (llama-kv-cache-iswa.cpp)."""
EVERY_NTH_IS_FULL = {
    "gemma2": 2, "gemma3": 6, "gemma3n": 5, "cohere2": 4, "gpt-oss": 2, "exaone4": 4, "olmo2": 4, "olmo3": 4,
}  # fmt: skip
"""Architectures in which all but every n-th layer see a sliding window only, where the file does not say it."""
MOST_LAYERS = 10_000
MOST = 1 << 24
"""Larger than any size in a model: of a layer, a vocabulary, a number of experts."""
MOST_TOKENS = 1 << 40
"""Larger than any window: some files write one that means none."""


def whole(said: object, name: str, where: Path, *, least: int = 0, most: int = MOST) -> int:
    """A whole number as a model's file gives it; of a list, one for each layer, the largest. Nothing said is 0.

    Raises:
        ModelFileError: it is no such number, or none that can be true.
    """
    if isinstance(said, list) and said:
        each = cast("list[object]", said)
        return max(_checked(one, name, where, least=least, most=most) for one in each)
    return 0 if said is None and least == 0 else _checked(cast("object", said), name, where, least=least, most=most)


def _checked(said: object, name: str, where: Path, *, least: int, most: int) -> int:
    if isinstance(said, bool) or not isinstance(said, int) or not least <= said <= most:
        shown = repr(said)
        raise ModelFileError(
            f"{where} says that its {name} is {shown if len(shown) < 60 else shown[:60] + '...'}",
            hint=f"it must be a whole number from {least} to {most:,}: is the file damaged?",
        )
    return said


@dataclass(frozen=True, slots=True)
class Setting:
    """How a model is to be served."""

    context: int
    """Tokens of one request, prompt and reply together."""
    _: KW_ONLY
    slots: int = 1
    """Requests at the same time, each with a context of its own."""
    cache_type: str = "f16"
    batch: int = MICRO_BATCH
    repack: bool = True
    """Whether weights are rearranged for the CPU, in a copy."""

    def __post_init__(self) -> None:
        for name in ("context", "slots", "batch"):
            value = cast("object", getattr(self, name))
            if not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"{name} is {value!r}", hint="give a whole number from 1")
        if self.cache_type not in CACHE_BITS:
            raise ConfigurationError(
                f"the cache type {self.cache_type!r} is not known", hint=f"one of {', '.join(CACHE_BITS)}"
            )


@dataclass(frozen=True, slots=True)
class Layers:
    """What the layers of a model keep of each token."""

    kv_heads: Sequence[int]
    """Per layer; 0 for a layer that keeps none."""
    key_size: int
    """Numbers of one key of one head."""
    value_size: int
    window: int | None = None
    """Tokens that layers with a sliding window see."""
    windowed: Sequence[bool] = ()
    """Per layer, whether it has that window; empty: none has."""

    def cache_bytes(self, setting: Setting) -> int:
        """The KV cache of all slots."""
        bits = CACHE_BITS[setting.cache_type] * (self.key_size + self.value_size)
        cells = setting.context
        short = cells if self.window is None else min(cells, -(-(self.window + setting.batch) // _PADDED) * _PADDED)
        total = 0.0
        for number, heads in enumerate(self.kv_heads):
            kept = short if number < len(self.windowed) and self.windowed[number] else cells
            total += heads * bits * kept * setting.slots / 8
        return int(total)


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes, by what takes them."""

    weights: int
    repacked: int
    kv_cache: int
    buffers: int
    """What computing takes, and the scores of the next token."""
    process: int = PROCESS

    @property
    def reported(self) -> int:
        """The sum of what the engine itself reports when it loads."""
        return self.weights + self.repacked + self.kv_cache + self.buffers

    @property
    def total(self) -> int:
        return self.reported + self.process


def gguf_need(info: GGUFInfo, setting: Setting) -> MemoryNeed:
    """The memory that llama.cpp takes for a file.

    Raises:
        ModelFileError: the file does not say what is needed.
    """
    layers = gguf_layers(info)
    embedding = _number(info, "embedding_length")
    inner = _said(info, "feed_forward_length")
    if experts := _said(info, "expert_used_count"):
        inner = max(inner, experts * _said(info, "expert_feed_forward_length"))
    shapes = (t.shape[-1] for t in info.tensors if t.name == "token_embd.weight" and len(t.shape) > 1)
    vocabulary = whole(next(shapes, 0), "vocabulary", info.path)
    repacked = sum(
        tensor.size
        for tensor in info.tensors
        if tensor.kind in REPACKED
        and len(tensor.shape) > 1
        and tensor.shape[1] % 8 == 0
        and tensor.name != "token_embd.weight"
    )
    mask = setting.context * setting.batch * 2
    compute = setting.batch * 4 * (3 * inner + 5 * embedding) + mask
    return MemoryNeed(
        weights=info.weights,
        repacked=repacked if setting.repack else 0,
        kv_cache=layers.cache_bytes(setting),
        buffers=compute + vocabulary * 4 * setting.slots,
    )


def gguf_layers(info: GGUFInfo) -> Layers:
    """What a file says of its layers.

    Raises:
        ModelFileError: it says too little.
    """
    count = _number(info, "block_count", most=MOST_LAYERS)
    heads, kv_heads = _said(info, "attention.head_count"), info.about("attention.head_count_kv")
    if not heads:
        raise ModelFileError(f"{info.path} does not say how many attention heads the model has")
    each = [_said(info, "attention.head_count_kv") or heads] * count
    if isinstance(kv_heads, list):
        name = "attention.head_count_kv"
        each = [whole(one, name, info.path) for one in cast("list[object]", kv_heads)][:count]
        if len(each) < count:
            raise ModelFileError(f"{info.path} says the {name} of {len(each)} layers, and has {count:,}")
    size = _number(info, "embedding_length") // heads
    window = _said(info, "attention.sliding_window", most=MOST_TOKENS)
    windowed = _windowed(info, count) if window else ()
    return Layers(
        each,
        _said(info, "attention.key_length") or size,
        _said(info, "attention.value_length") or size,
        window if windowed else None,
        windowed,
    )


def _windowed(info: GGUFInfo, count: int) -> Sequence[bool]:
    name = "attention.sliding_window_pattern"
    said = info.about(name)
    if isinstance(said, list):
        return [bool(one) for one in cast("list[object]", said)]
    return all_but_every(whole(said, name, info.path) or EVERY_NTH_IS_FULL.get(info.architecture, 0), count)


def all_but_every(nth: int, count: int) -> Sequence[bool]:
    """Per layer, whether it has the window, where each `nth` has not; 0: none has."""
    return [number % nth < nth - 1 for number in range(count)] if nth else ()


def _said(info: GGUFInfo, key: str, *, most: int = MOST) -> int:
    return whole(info.about(key), key, info.path, most=most)


def _number(info: GGUFInfo, key: str, *, most: int = MOST) -> int:
    if info.about(key) is None:
        raise ModelFileError(
            f"{info.path} does not say its {key} (architecture {info.architecture!r})",
            hint="is it a language model? Adapters and vocabularies have none",
        )
    return whole(info.about(key), key, info.path, least=1, most=most)
