"""Secrets are hidden; names that only sound like secrets stay legible."""

import time

import pytest

from trainer_backend.data.checks.texts import text_findings
from trainer_backend.redact import HIDDEN, PATTERNS, redact, redact_facts, secret_places

# the parts are joined here, so that no scanner of this repository takes them for real ones
EXAMPLES = {
    "Hugging Face token": ["hf_" + "AbCdEfGhIjKlMnOpQrSt", "hf_" + "abcdefghijklmnopqrstuvwxyz"],
    "key of a model service": [
        "sk-" + "proj-0123456789abcdef0123",
        "sk-" + "ant-api03-Ab_cd-EfGhIjKlMnOpQr12St-xxAA",
        "pk-" + "lf-12345678-aaaa-bbbb-cccc-1234567890ab",
    ],
    "payment key": ["sk_" + "live_4eC39HqLyjWDarjtT1", "rk_" + "test_4eC39HqLyjWDarjtT1"],
    "GitHub token": ["ghp_" + "0123456789abcdefABCDEF", "gho_" + "0123456789abcdefABCDEF"],
    "fine-grained GitHub token": ["github_pat_" + "11ABCDEFG0abcdefghijkl_x"],
    "Slack token": ["xoxb-" + "123456789012-abcdef"],
    "AWS access key": ["AKIA" + "IOSFODNN7EXAMPLE"],
    "Google key": ["AIza" + "SyA1" + "b" * 31],
    "private key": [
        "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEow+/\nabc=\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN " + "PRIVATE KEY-----",
    ],
    "bearer token": ["Bearer " + "eyJhbGciOiJIUzI1NiJ9.e30", "bearer " + "0a1b2c3d"],
    "password in an address": ["https://" + "user:pass-word@hub.example/x"],
    "token in an address": [
        "https://hub.example/x?token=" + "abcdef123&a=1",
        "https://hub.example/x?a=1&api_key=" + "qwertyuiopasdfgh",
        "https://hub.example/x?KEY=" + "abcdef123",
    ],
}
SECRETS = [(name, text) for name, texts in EXAMPLES.items() for text in texts]
ORDINARY = [
    "The task-force-of-risk-averse-desk-clerks-2024 met; class sk-fading-circle-animation-12.",
    "A standard bearer of bad news; Bearer authentication; Authorization: Bearer YOUR_TOKEN",
    "import sk_learn_linear_model_2; pk_orders_archive_table_2023; hf_hub_download_with_retry",
    'connect(f"postgres://{user}:{password}@{host}/db"), "mysql://%s:%s@host", "x://u:***@h"',
    '{"url":"http://localhost","mail":"a@example.org"} http://localhost:8080/@me',
    "https://example.org/?key=value&token=YOUR_API_KEY_GOES_HERE&monkey=banana12345",
    "through high ghosts ghs_ xoxo-xoxo AKIAlike AIza PRIVATE KEY -----BEGIN CERTIFICATE-----",
    "Ask-me-anything: a-sk-" + "proj-is-a-word; 密码 hf_ 是 github_pat_placeholder_goes_here",
]
HARMLESS = [
    *ORDINARY,
    "n_tokens=512, pad_token_id=0, max_new_tokens: 64",
    "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "hf_hub_download failed for owner/name",
    "step 3 of 9  loss 1.2345  learning rate 2.00e-04",
    "https://hub.example/owner/name",
]


def has_secret(texts):
    return {kind.code: [*where] for kind, where in text_findings(texts)}["secret"]


def test_every_pattern_has_an_example():
    assert set(EXAMPLES) == {one.name for one in PATTERNS}


@pytest.mark.parametrize("name, text", SECRETS)
def test_what_looks_like_a_secret_is_hidden_once(name, text):
    hidden = redact(f"before {text} after")
    assert HIDDEN in hidden and hidden.startswith("before ") and hidden.endswith(" after")
    assert redact(hidden) == hidden
    (found,) = [one for one in PATTERNS if one.name == name]
    secret = found.pattern.search(text)[1]
    assert secret not in hidden
    assert any(hint in text for hint in found.hints)


@pytest.mark.parametrize("name, text", SECRETS)
def test_the_check_of_a_dataset_finds_what_is_hidden_elsewhere(name, text):
    assert has_secret(["nothing", f"before {text} after", "nothing", text]) == [1, 3]
    assert has_secret([f"密码{text}，好"]) == [0]


@pytest.mark.parametrize("text", ORDINARY)
def test_the_check_of_a_dataset_gives_no_false_alarm(text):
    assert has_secret([text, text]) == []


def test_a_secret_does_not_reach_from_one_text_into_the_next():
    assert has_secret(["https://user", "x:pass@host"]) == []
    assert has_secret(["http://a", "b:c", "d@example.org"]) == []
    assert has_secret(["AKIA", "IOSFODNN7EXAMPLE"]) == []


@pytest.mark.parametrize("start", ["sk-", "://", "x://a:", "?token=", "Bearer ", "hf_", "xoxb-"])
def test_a_long_text_is_searched_in_time_that_grows_with_its_length(start):
    began = time.process_time()
    for filling in ("a", "a-", "A_", start):
        assert len([*secret_places((start + filling * 200_000)[:300_000])]) <= 2
    assert time.process_time() - began < 4


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
