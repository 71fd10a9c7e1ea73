"""Reading GGUF heads."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry.errors import ModelFileError
from wherry.models.local.gguf import read_gguf


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def small_gguf() -> bytes:
    """A whole GGUF file with one tensor of 8 floats."""
    metadata = [
        string("general.architecture") + struct.pack("<I", 8) + string("llama"),
        string("general.name") + struct.pack("<I", 8) + string("Small"),
        string("llama.context_length") + struct.pack("<I", 4) + struct.pack("<I", 4096),
        string("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 3) + string("a") + string("bc") + string("é"),
        string("tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, 2) + struct.pack("<ff", 0.5, 1.5),
        string("nested") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 4, 2) + struct.pack("<II", 1, 2),
        string("tokenizer.chat_template") + struct.pack("<I", 8) + string("{{ messages }}"),
    ]
    tensor = string("weight") + struct.pack("<IQ", 1, 8) + struct.pack("<IQ", 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(metadata)) + b"".join(metadata) + tensor
    return head + b"\0" * (-len(head) % 32) + struct.pack("<8f", *range(8))


def test_what_it_says_of_itself(tmp_path: Path) -> None:
    file = tmp_path / "small.gguf"
    file.write_bytes(small_gguf())
    info = read_gguf(file)
    assert (info.architecture, info.name, info.context_length) == ("llama", "Small", 4096)
    assert info.chat_template == "{{ messages }}"
    assert info.size == len(small_gguf())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no GGUF"),
        (b"PK\x03\x04 a zip", "is no GGUF"),
        (b"GGUF", "cut short"),
        (b"GGUF" + struct.pack("<I", 99) + b"\0" * 64, "version"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60), "cut short or damaged"),
    ],
)
def test_what_is_no_gguf_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "other.gguf"
    file.write_bytes(content)
    with pytest.raises(ModelFileError, match=words):
        read_gguf(file)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no model file"):
        read_gguf(tmp_path / "absent.gguf")
    with pytest.raises(ModelFileError, match="a folder"):
        read_gguf(tmp_path)


@pytest.mark.parametrize("kept", range(0, len(small_gguf()), 23))
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, kept: int) -> None:
    file = tmp_path / "cut.gguf"
    file.write_bytes(small_gguf()[:kept])
    with pytest.raises(ModelFileError):
        read_gguf(file)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=300)
@given(at=st.integers(0, len(small_gguf()) - 33), byte=st.integers(0, 255))
def test_a_damaged_head_is_read_or_refused_but_never_crashes(tmp_path: Path, at: int, byte: int) -> None:
    content = bytearray(small_gguf())
    content[at] = byte
    file = tmp_path / f"damaged-{at}-{byte}.gguf"
    file.write_bytes(bytes(content))
    with contextlib.suppress(ModelFileError):
        assert read_gguf(file).size == len(content)
