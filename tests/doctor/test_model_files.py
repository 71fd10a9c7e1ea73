"""What model files say is read as they are published, and refused where it cannot be true."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry.doctor.config_need import config_layers, config_need, read_config
from wherry.doctor.fit import fit
from wherry.doctor.need import Layers, Setting, gguf_layers, gguf_need
from wherry.errors import ModelFileError
from wherry.models.local.gguf import read_gguf

Shape: TypeAlias = "tuple[str, Sequence[int], int, int]"  # name, shape, type, offset

TINY = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
}
MISTRAL: dict[str, Any] = {
    "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_hidden_layers": 12, "num_key_value_heads": 8, "vocab_size": 32000, "sliding_window": 4096,
}  # fmt: skip


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(path: Path, metadata: Mapping[str, object], tensors: Sequence[Shape] = (), *, data: int = 64) -> Path:
    """A file with a head and so many bytes behind it."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        head += text(key)
        if isinstance(value, str):
            head += struct.pack("<I", 8) + text(value)
        elif isinstance(value, list):
            head += struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        else:
            head += struct.pack("<Iq", 11, value)
    for name, shape, kind, offset in tensors:
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    path.write_bytes(head + bytes(-len(head) % 32) + bytes(data))
    return path


def config(path: Path, said: Mapping[str, Any]) -> Path:
    (path / "config.json").write_text(json.dumps(said))
    return path


def layers_of(path: Path, said: Mapping[str, Any]) -> Layers:
    found, _ = read_config(config(path, said))
    return config_layers(found, path)


@pytest.mark.parametrize(
    ("kind", "full"),
    [
        ("gemma2", [1, 3, 5, 7, 9, 11]),
        ("gemma3_text", [5, 11]),
        ("gemma3n_text", [4, 9]),
        ("cohere2", [3, 7, 11]),
        ("gpt_oss", [1, 3, 5, 7, 9, 11]),
        ("exaone4", [3, 7, 11]),
        ("mistral", []),
        ("starcoder2", []),
        ("phi3", []),
    ],
)
def test_which_layers_have_the_window_follows_the_type(tmp_path: Path, kind: str, full: list[int]) -> None:
    layers = layers_of(tmp_path, {**MISTRAL, "model_type": kind})
    assert layers.window == 4096
    assert [number for number, windowed in enumerate(layers.windowed) if not windowed] == full


@pytest.mark.parametrize(
    ("more", "windowed"),
    [
        ({"model_type": "nobody_knows"}, []),
        ({"use_sliding_window": False}, []),
        ({"model_type": "qwen2", "max_window_layers": 8}, []),
        ({"model_type": "qwen2", "max_window_layers": 8, "use_sliding_window": True}, [8, 9, 10, 11]),
        ({"model_type": "exaone4", "sliding_window_pattern": "LLLG"}, [0, 1, 2, 4, 5, 6, 8, 9, 10]),
        ({"model_type": "x", "sliding_window_pattern": 6}, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]),
        ({"layer_types": ["full_attention", "sliding_attention"] * 6}, [1, 3, 5, 7, 9, 11]),
    ],
)
def test_what_the_config_says_of_its_window_goes_first(
    tmp_path: Path, more: dict[str, Any], windowed: list[int]
) -> None:
    layers = layers_of(tmp_path, {**MISTRAL, **more})
    assert [number for number, has in enumerate(layers.windowed) if has] == windowed


@pytest.mark.parametrize(
    ("kind", "bits"),
    [
        (16, 2.0625), (17, 2.3125), (18, 3.0625), (19, 1.5625), (21, 3.4375), (22, 2.5625), (29, 1.75),
        (34, 1.6875), (35, 2.0625), (39, 4.25), (40, 4.5), (41, 1.125), (42, 2.25), (24, 8), (28, 64),
    ],
)  # fmt: skip
def test_every_type_of_tensor_weighs_something(tmp_path: Path, kind: int, bits: float) -> None:
    size = int(4096 * bits / 8)
    path = gguf(tmp_path / "m.gguf", TINY, [("blk.0.w", [256, 16], kind, 0)], data=size)
    info = read_gguf(path)
    assert info.tensors[0].size == info.weights == size
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match="cut short"):
        read_gguf(path)


def test_tensors_of_unknown_types_weigh_what_the_file_has(tmp_path: Path) -> None:
    path = gguf(tmp_path / "m.gguf", TINY, [("known", [8], 0, 0), ("new", [256, 16], 999, 32)], data=32 + 5000)
    assert gguf_need(read_gguf(path), Setting(512)).weights == 5032


def split(folder: Path, number: int, count: int, *, name: str = "m", no: int | None = None) -> Path:
    said = {"split.no": number - 1 if no is None else no, "split.count": count}
    path = folder / f"{name}-{number:05}-of-{count:05}.gguf"
    return gguf(path, {**(TINY if number == 1 else {}), **said}, [(f"blk.{number}.w", [256], 0, 0)], data=1024)


def test_the_files_of_a_split_model_are_added_up(tmp_path: Path) -> None:
    parts = [split(tmp_path, number, 3) for number in (1, 2, 3)]
    info = read_gguf(parts[0])
    assert info.weights == 3 * 1024
    assert info.size == sum(part.stat().st_size for part in parts)
    assert [tensor.name for tensor in info.tensors] == ["blk.1.w", "blk.2.w", "blk.3.w"]
    assert fit(str(parts[0]), Setting(512), places=[]).need.weights == 3 * 1024


def test_a_split_model_with_a_part_missing_is_refused(tmp_path: Path) -> None:
    first, second, third = (split(tmp_path, number, 3) for number in (1, 2, 3))
    with pytest.raises(ModelFileError, match="not the first file") as caught:
        read_gguf(second)
    assert first.name in (caught.value.hint or "")
    split(tmp_path, 3, 3, no=1)
    with pytest.raises(ModelFileError, match="not part 3"):
        read_gguf(first)
    third.unlink()
    with pytest.raises(ModelFileError, match=r"m-00003-of-00003\.gguf is not beside it"):
        read_gguf(first)
    with pytest.raises(ModelFileError, match="does not tell the others"):
        read_gguf(first.rename(tmp_path / "renamed.gguf"))


NONSENSE = st.one_of(
    st.integers(max_value=-1), st.integers(min_value=1 << 41), st.text(), st.floats(), st.booleans(),
    st.dictionaries(st.text(), st.integers(), max_size=2), st.just([[1]]), st.just(["x"]), st.just([-1]),
)  # fmt: skip
FIELDS = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_size", "intermediate_size",
          "head_dim", "vocab_size", "sliding_window", "kv_lora_rank", "num_experts")  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=100)
@given(field=st.sampled_from(FIELDS), nonsense=NONSENSE)
def test_a_field_that_cannot_be_is_named(tmp_path: Path, field: str, nonsense: object) -> None:
    path = config(tmp_path, {**MISTRAL, field: nonsense})
    with pytest.raises(ModelFileError, match=field):
        config_need(path, Setting(512))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.block_count", 2**31),
        ("llama.block_count", -1),
        ("llama.block_count", "two"),
        ("llama.embedding_length", 2**40),
        ("llama.attention.head_count", "4"),
        ("llama.attention.head_count_kv", -2),
        ("llama.attention.head_count_kv", [4, -4]),
        ("llama.attention.head_count_kv", [4]),
        ("llama.attention.key_length", "x"),
        ("llama.attention.sliding_window", -5),
        ("llama.feed_forward_length", [7, -7]),
    ],
)
def test_a_number_of_a_gguf_that_cannot_be_is_named(tmp_path: Path, key: str, value: object) -> None:
    path = gguf(tmp_path / "m.gguf", {**TINY, key: value})
    with pytest.raises(ModelFileError, match=key.removeprefix("llama.")):
        fit(str(path), Setting(512), places=[])


def test_a_size_for_each_layer_is_taken_by_its_largest(tmp_path: Path) -> None:
    one = config_need(config(tmp_path, {**MISTRAL, "intermediate_size": 8192}), Setting(512))
    each = config_need(config(tmp_path, {**MISTRAL, "intermediate_size": [8192, 4096] * 6}), Setting(512))
    assert each == one
    path = gguf(tmp_path / "m.gguf", {**TINY, "llama.feed_forward_length": [100, 200]})
    assert gguf_layers(read_gguf(path)).kv_heads == [4, 4]


GEMMA_3_4B = {
    "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "torch_dtype": "bfloat16",
    "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
                    "num_hidden_layers": 34, "sliding_window": 1024},
    "vision_config": {"hidden_size": 1152, "num_attention_heads": 16, "num_hidden_layers": 27},
}  # fmt: skip


def test_a_config_as_it_is_published_leaves_to_transformers_what_it_takes(tmp_path: Path) -> None:
    layers = layers_of(tmp_path, GEMMA_3_4B)
    assert (layers.kv_heads, layers.key_size) == ([4] * 34, 256)
    assert [number for number, has in enumerate(layers.windowed) if not has] == [5, 11, 17, 23, 29]
    assert config_need(tmp_path, Setting(512)).weights == pytest.approx(2 * 3.88e9, rel=0.01)


def test_a_config_that_says_too_little_says_what_to_give(tmp_path: Path) -> None:
    llava = {"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064}}
    with pytest.raises(ModelFileError, match="does not say its hidden_size") as caught:
        config_need(config(tmp_path, llava), Setting(512))
    assert "GGUF" in (caught.value.hint or "")


def test_the_names_of_gpt_2_are_known(tmp_path: Path) -> None:
    gpt2 = {"model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024,
            "vocab_size": 50257, "torch_dtype": "float32"}  # fmt: skip
    found = fit(str(config(tmp_path, gpt2)), Setting(1024), places=[])
    assert found.trained_context == 1024
    assert found.layers == Layers([12] * 12, 64, 64)
    assert found.need.weights == pytest.approx(4 * 124e6, rel=0.01)


GPT_OSS_20B: dict[str, Any] = {
    "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24, "head_dim": 64,
    "num_attention_heads": 64, "num_key_value_heads": 8, "num_local_experts": 32, "vocab_size": 201088,
    "tie_word_embeddings": False, "quantization_config": {"quant_method": "mxfp4"},
}  # fmt: skip


def test_the_experts_of_an_mxfp4_model_take_four_and_a_quarter_bits(tmp_path: Path) -> None:
    weights = config_need(config(tmp_path, GPT_OSS_20B), Setting(512)).weights
    assert weights == pytest.approx(13.76e9, rel=0.01)  # the files of gpt-oss-20b


def quantized(folder: Path, said: Mapping[str, Any]) -> float:
    """Bits of a weight of a layer."""
    embeddings = 2 * 32000 * 4096
    whole = config_need(config(folder, MISTRAL), Setting(512)).weights - 2 * embeddings
    found = config_need(config(folder, {**MISTRAL, "quantization_config": said}), Setting(512)).weights
    return 16 * (found - 2 * embeddings) / whole


@pytest.mark.parametrize(
    ("said", "bits"),
    [
        ({"quant_method": "mxfp4"}, 4.25),
        ({"quant_method": "gptq", "bits": 4}, 4.5),
        ({"quant_method": "awq", "bits": "4"}, 4.5),
        ({"quant_method": "exl2", "bits": 3.5}, 4.0),
        ({"config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 128}}}}, 4.5),
        ({"config_groups": {"group_0": {"weights": {"num_bits": "8", "group_size": None}}}}, 8.0),
        ({"config_groups": {"a": {"weights": None}, "b": 7}}, 16.0),
        ({"quant_method": "fp8"}, 8.0),
        ({"load_in_4bit": True}, 4.5),
    ],
)
def test_quantised_weights_take_fewer_bits(tmp_path: Path, said: dict[str, Any], bits: float) -> None:
    assert quantized(tmp_path, said) == pytest.approx(bits)


@pytest.mark.parametrize("bits", [0, -4, 4000, "four", [4], "nan", True])
def test_bits_that_cannot_be_are_named(tmp_path: Path, bits: object) -> None:
    with pytest.raises(ModelFileError, match="bits"):
        quantized(tmp_path, {"bits": bits})
