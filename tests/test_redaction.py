"""Secrets in whatever is written down."""

from __future__ import annotations

import gc
import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.messages import canonical
from wherry.redaction import RedactingFilter, ending, hold, redact, redact_json

# Put together here, so that no scanner of the source takes them for keys.
KEYS = [
    "sk-" + "proj-Ab3dEf6hIj9kLmNoPqRsTuVw",
    "sk-" + "ant-api03-Ab3dEf6hIj9kLmNoPqRsTuVw_x-yz",
    "sk-" + "or-v1-0123456789abcdef0123456789abcdef",
    "sk_" + "live_51Habcdefghij0123",
    "gsk_" + "Ab3dEf6hIj9kLmNoPqRsTuVw",
    "csk-" + "ab3def6hij9klmnopqrstuvw",
    "xai-" + "Ab3dEf6hIj9kLmNoPqRsTuVw",
    "hf_" + "AbCdEfGhIjKlMnOpQrStUvWx",
    "tgp_v1_" + "Ab3dEf6hIj9kLmNoPqRs-TuVw",
    "nvapi-" + "Ab3dEf6hIj9kLmNoPqRs",
    "pplx-" + "Ab3dEf6hIj9kLmNoPqRs",
    "glpat-" + "Ab3dEf6hIj9kLmNoPqRs",
    "tvly-" + "dev-Ab3dEf6hIj9kLmNoPqRs",
    "AIza" + "SyA0b1C2d3E4f5G6h7I8j9K0l1M2n3O4p5Q",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "ghp_" + "Ab3dEf6hIj9kLmNoPqRsTuVwXyZ0123456",
    "github_pat_" + "11ABCDEFG0abcdefghijkl_mnopqrstuv",
    "xoxb-" + "123456789012-abcdef",
    "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9",
]
PRIVATE = "-----BEGIN RSA PRIVATE" + " KEY-----\nMIIEow+/=\nabc\n-----END RSA PRIVATE" + " KEY-----"


class Owner:
    pass


@pytest.mark.parametrize("key", KEYS)
def test_keys_of_known_shapes(key: str) -> None:
    for text in (key, f"Incorrect API key provided: {key}.", f'{{"k": "{key}"}}', f"?key={key}&x=1", f"a\n{key}\nb"):
        clean = redact(text)
        assert key not in clean
        assert clean == text.replace(key, ending(key))
        assert json.loads(redact_json(canonical({"t": [text]}))) == {"t": [clean]}


def test_a_bearer_token_and_a_private_key() -> None:
    assert redact("Authorization: Bearer abcdef0123456789-wxyz;") == "Authorization: …wxyz;"
    assert redact(f"see\n{PRIVATE}\nend") == "see\n…\nend"
    assert json.loads(redact_json(canonical({"a": PRIVATE, "b": "stays"}))) == {"a": "…", "b": "stays"}


@pytest.mark.parametrize(
    "text",
    [
        "the task-based-scheduler-of-2026-with-a-long-name, and risk-averse-1-strategies-everywhere",
        "sk-learn, sk-image and sk-very-long-words-without-digits",
        "class MyIAzaController: pass  # eyJ is how tokens begin",
        "a bearer of bad news; Bearer authentication is documented elsewhere",
        "sha256 " + "0123456789abcdef" * 4,
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    ],
)
def test_what_is_no_key_stays(text: str) -> None:
    assert redact(text) == text
    data = canonical({"t": text})
    assert redact_json(data) is data


@pytest.mark.slow
def test_held_secrets_are_found_while_their_owner_lives() -> None:
    owner, other = Owner(), Owner()
    secret = 'my own "secret"\nof the house'
    hold(secret, owner)
    hold(secret, other)
    hold("short", owner)
    assert redact(f"it is {secret}!") == "it is …ouse!"
    assert json.loads(redact_json(canonical({secret: secret}))) == {"…ouse": "…ouse"}
    assert redact("a short text") == "a short text"
    del owner
    gc.collect()
    assert secret not in redact(secret)
    del other
    gc.collect()
    assert redact(secret) == secret


def test_of_two_held_secrets_the_longer_is_found_first() -> None:
    owner = Owner()
    hold("abcdefgh1234", owner)
    hold("abcdefgh1234-and-more5678", owner)
    assert redact("x abcdefgh1234-and-more5678 y") == "x …5678 y"


@pytest.mark.slow
@given(st.recursive(st.text() | st.integers(), lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=10))
def test_what_is_left_is_the_same_json_without_the_secret(value: object) -> None:
    owner = Owner()
    secret = "the-held-secret-77xx"
    hold(secret, owner)
    data = redact_json(canonical({"value": value, "key": f"<{secret}>", "shaped": KEYS[0]}))
    found = json.loads(data.decode("utf-8", "surrogatepass"))
    assert found == {"value": value, "key": "<…77xx>", "shaped": ending(KEYS[0])}
    assert canonical(found) == data


def test_logs_are_clean() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(RedactingFilter())
    logger = logging.getLogger("test_redaction")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        logger.warning("sent %s to %s", KEYS[0], "there")
        try:
            raise RuntimeError(f"refused: {KEYS[4]}")
        except RuntimeError:
            logger.exception("failed")
        logger.warning("plain %d", 7)
    finally:
        logger.removeHandler(handler)
    said = out.getvalue()
    assert KEYS[0] not in said
    assert KEYS[4] not in said
    assert f"sent {ending(KEYS[0])} to there" in said
    assert "refused: …" in said
    assert "plain 7" in said
