"""Whether a model fits is told before it is loaded, and told right."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wherry.doctor.fit import fit
from wherry.doctor.need import CACHE_BITS, Layers, Setting, gguf_layers
from wherry.doctor.room import Room
from wherry.errors import CatalogueError, ConfigurationError, ModelFileError
from wherry.models.local import pull
from wherry.models.local.catalogue import path as catalogue_path
from wherry.models.local.gguf import read_gguf

MIB = 1 << 20
LOAD = """
import signal, sys, xllamacpp
path, context, slots, repack = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "repack"
params = xllamacpp.CommonParams()
params.model.path = path
params.n_ctx, params.n_parallel, params.kv_unified = context * slots, slots, False
params.hostnames, params.port, params.ui, params.verbosity = ["127.0.0.1"], 0, False, 4
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
params.no_extra_bufts, params.fit_params, params.warmup = not repack, False, False
server = xllamacpp.Server(params)  # kept: see REPORTED
signal.pause()
"""
REPORTED = "all slots are idle"
"""The line that ends llama.cpp's report: its log is written by another thread, after the server is made.

Then the child is killed. A server that is dropped (xllamacpp 2026.10) waits for its loop, and for ever if it told the
loop to end before that had begun: of 63 servers dropped on a busy machine, 14 never ended.
"""
LOAD_SECONDS = 120.0


@pytest.mark.local_model
@pytest.mark.parametrize("name", ["smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"])
@pytest.mark.parametrize(("context", "slots", "repack"), [(2048, 1, True), (8192, 4, False)])
def test_what_is_told_is_what_llama_cpp_reports(name: str, context: int, slots: int, repack: bool) -> None:
    path = _on_this_machine(name)
    log = _report([sys.executable, "-c", LOAD, str(path), str(context), str(slots), "repack" if repack else ""])
    reported = sum(float(size) for size in re.findall(r"buffer size = +([\d.]+) MiB", log)) * MIB
    assert "compute buffer size" in log, log[-2000:]
    told = fit(str(path), Setting(context, slots=slots, repack=repack)).need.reported
    assert told == pytest.approx(reported, rel=0.10)


def _report(command: Sequence[str]) -> str:
    """What llama.cpp says while it loads."""
    calm = {**os.environ, "OMP_WAIT_POLICY": "passive"}  # threads that spin take minutes on a busy machine
    lines: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace", env=calm) as child:
        late = threading.Timer(LOAD_SECONDS, child.kill)  # then its report ends here, and is too short
        late.start()
        try:
            assert child.stderr is not None
            for line in child.stderr:
                lines.append(line)
                if REPORTED in line:
                    return "".join(lines)
        finally:
            late.cancel()
            child.kill()
    said = "".join(lines)[-2000:]
    pytest.fail(f"llama.cpp did not end its report within {LOAD_SECONDS:.0f} s; it ended with\n{said}")


def _on_this_machine(name: str) -> Path:
    try:
        # The largest is a gigabyte: it is checked where it is already.
        found = catalogue_path(name) if name == "qwen2.5-coder-1.5b" else pull(name)
    except CatalogueError as error:
        pytest.skip(f"{name} cannot be had here: {error.message}")
    return found or pytest.skip(f"{name} is not on this machine")


def gguf(path: Path, metadata: Mapping[str, int | str | list[int]]) -> Path:
    """A file with a head and no tensors."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, 0, len(metadata))
    for key, value in metadata.items():
        head += text(key)
        if isinstance(value, str):
            head += struct.pack("<I", 8) + text(value)
        elif isinstance(value, int):
            head += struct.pack("<II", 4, value)
        else:
            head += struct.pack("<IIQ", 9, 4, len(value)) + struct.pack(f"<{len(value)}I", *value)
    path.write_bytes(head + bytes(64))
    return path


def test_layers_that_keep_nothing_and_layers_with_a_window_take_less(tmp_path: Path) -> None:
    said = {
        "general.architecture": "gemma3",
        "gemma3.block_count": 6,
        "gemma3.embedding_length": 1024,
        "gemma3.attention.head_count": 8,
        "gemma3.attention.head_count_kv": [2, 2, 2, 2, 0, 2],
        "gemma3.attention.sliding_window": 512,
    }
    layers = gguf_layers(read_gguf(gguf(tmp_path / "m.gguf", said)))
    assert layers.kv_heads == [2, 2, 2, 2, 0, 2]
    assert layers.windowed == [True] * 5 + [False]
    # 4 layers of 512 + 512 cells, one of 8,192; 2 heads x (128 + 128) numbers of 2 bytes
    assert layers.cache_bytes(Setting(8192)) == (4 * 1024 + 8192) * 2 * 256 * 2


@given(
    context=st.integers(1, 200_000),
    slots=st.integers(1, 16),
    cache_type=st.sampled_from(sorted(CACHE_BITS)),
    window=st.one_of(st.none(), st.integers(1, 10_000)),
    heads=st.lists(st.integers(0, 16), min_size=1, max_size=20),
)
@example(context=842, slots=2, cache_type="q5_1", window=292, heads=[16])  # padded, the window passes the context
def test_more_never_takes_less(context: int, slots: int, cache_type: str, window: int | None, heads: list[int]) -> None:
    layers = Layers(heads, 64, 64, window, [True] * len(heads) if window else ())
    whole = Layers(heads, 64, 64)
    here = Setting(context, slots=slots, cache_type=cache_type)
    assert layers.cache_bytes(here) <= layers.cache_bytes(Setting(context + 1, slots=slots, cache_type=cache_type))
    assert layers.cache_bytes(here) <= layers.cache_bytes(Setting(context, slots=slots + 1, cache_type=cache_type))
    assert layers.cache_bytes(here) <= whole.cache_bytes(here)
    assert layers.cache_bytes(here) <= layers.cache_bytes(Setting(context, slots=slots, cache_type="f32"))


LLAMA_8B: dict[str, Any] = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_hidden_layers": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "torch_dtype": "bfloat16", "max_position_embeddings": 131072,
}  # fmt: skip


def test_a_folder_without_weights_is_sized_by_its_shapes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    found = fit(str(tmp_path), Setting(8192), places=[])
    assert found.need.weights == pytest.approx(16.06e9, rel=0.01)  # 8.03 billion parameters of 2 bytes
    assert found.need.kv_cache == 8192 * 32 * 8 * 256 * 2  # 128 KiB a token
    assert found.trained_context == 131072


def test_a_folders_files_go_before_its_shapes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    assert fit(str(tmp_path), Setting(8192), places=[]).need.weights == 1000
    (tmp_path / "model.safetensors.index.json").write_text('{"metadata": {"total_size": 2000}}')
    assert fit(str(tmp_path), Setting(8192), places=[]).need.weights == 2000


@pytest.mark.parametrize(
    ("more", "a_token"),
    [
        ({"num_key_value_heads": None}, 32 * 32 * 256 * 2),
        ({"head_dim": 64}, 32 * 8 * 128 * 2),
        ({"kv_lora_rank": 512, "qk_rope_head_dim": 64}, 32 * 576 * 2),
        ({"torch_dtype": "float32"}, 32 * 8 * 256 * 4),
        ({"text_config": {"num_hidden_layers": 16}}, 16 * 8 * 256 * 2),
    ],
)
def test_what_a_token_takes_follows_the_config(tmp_path: Path, more: dict[str, Any], a_token: int) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA_8B, **more}))
    assert fit(str(tmp_path), Setting(8192), places=[]).need.kv_cache == 8192 * a_token


def test_it_says_how_much_context_would_fit(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    places = [Room("RAM", 20_000_000_000), Room("GPU 0", 8_000_000_000), Room("elsewhere", None)]
    found = fit(str(tmp_path), Setting(131_072), places=places)
    ram, gpu, unknown = found.verdicts
    assert (ram.fits, gpu.fits, unknown.fits) == (False, False, None)
    assert gpu.largest_context == 0
    assert ram.largest_context is not None
    again = fit(str(tmp_path), Setting(ram.largest_context), places=places)
    assert again.verdicts[0].fits
    assert not fit(str(tmp_path), Setting(ram.largest_context + 1), places=places).verdicts[0].fits


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "holds no object"),
        ("{", "cannot be read"),
        ("{}", "num_hidden_layers"),
        ('{"num_hidden_layers": "x"}', "num_hidden"),
    ],
)
def test_a_config_that_is_none_is_told(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelFileError, match=said):
        fit(str(tmp_path), Setting(8192))


def test_what_is_no_language_model_is_told(tmp_path: Path) -> None:
    path = gguf(tmp_path / "adapter.gguf", {"general.architecture": "llama"})
    with pytest.raises(ModelFileError, match="block_count"):
        fit(str(path), Setting(8192))
    with pytest.raises(ModelFileError, match="no such file"):
        fit(str(tmp_path / "nothing.gguf"), Setting(8192))


def test_a_setting_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="context is 0"):
        Setting(0)
    with pytest.raises(ConfigurationError, match="q9"):
        Setting(1, cache_type="q9")
