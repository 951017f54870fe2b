"""Secrets are hidden; names that only sound like secrets stay legible."""

import pytest

from trainer_backend.redact import HIDDEN, redact, redact_facts

SECRETS = [
    "hf_AbCdEfGhIjKlMnOpQrSt",
    "sk-proj-0123456789abcdef0123",
    "ghp_0123456789abcdefABCDEF",
    "AKIAIOSFODNN7EXAMPLE",
    "Bearer eyJhbGciOiJIUzI1NiJ9.e30",
    "https://user:pass-word@hub.example/x",
    "https://hub.example/x?token=abcdef123&a=1",
]
HARMLESS = [
    "n_tokens=512, pad_token_id=0, max_new_tokens: 64",
    "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "hf_hub_download failed for owner/name",
    "step 3 of 9  loss 1.2345  learning rate 2.00e-04",
    "https://hub.example/owner/name",
]


@pytest.mark.parametrize("text", SECRETS)
def test_what_looks_like_a_secret_is_hidden_once(text):
    hidden = redact(f"before {text} after")
    assert HIDDEN in hidden and hidden.startswith("before ") and hidden.endswith(" after")
    assert redact(hidden) == hidden


@pytest.mark.parametrize("text", HARMLESS)
def test_what_helps_to_find_a_fault_stays(text):
    assert redact(text) == text


def test_secrets_of_the_environment_are_known_by_their_names(monkeypatch):
    monkeypatch.setenv("MY_SERVICE_PASSWORD", "correct-horse")
    monkeypatch.setenv("SFT_STUDIO_WEBHOOK", "https://hooks.example/T0/B1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    text = redact("correct-horse at https://hooks.example/T0/B1: false")
    assert text == f"{HIDDEN} at {HIDDEN}: false"


def test_the_token_saved_by_a_login_is_known(monkeypatch, tmp_path):
    (tmp_path / "token").write_text("hf-old-style-token\n")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("A_TOKEN", "changes-what-is-remembered")
    assert redact("x hf-old-style-token y") == f"x {HIDDEN} y"


def test_plain_data_is_searched_at_any_depth():
    facts = {"a": ["hf_AbCdEfGhIjKlMnOpQrSt", 1, None], "b": {"c": True}}
    assert redact_facts(facts) == {"a": [HIDDEN, 1, None], "b": {"c": True}}
