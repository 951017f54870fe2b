"""The patterns of secrets (keys, tokens, passwords), and their removal from text.

The table serves the checks of a dataset as well as logs. It is narrow enough for ordinary text:
settings, hashes, code with placeholders and slugs do not match.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

HIDDEN = "‹secret›"
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|ACCESS_?KEY|CREDENTIAL|WEBHOOK", re.I)


@dataclass(frozen=True)
class SecretPattern:
    """One kind of secret; group 1 of the pattern is the part to hide.

    Every match contains one of the hints, which are quick to search for. A pattern begins with a
    literal where possible, for speed; none matches across "\\0".
    """

    name: str
    hints: tuple[str, ...]
    pattern: re.Pattern


def _pattern(name: str, hints: str, pattern: str) -> SecretPattern:
    return SecretPattern(name, tuple(hints.split()), re.compile(pattern))


_HEADER = "-----{} [A-Z ]{{0,30}}PRIVATE KEY-----"
PATTERNS = (
    _pattern(
        "Hugging Face token",
        "hf_",
        r"(hf_(?<![A-Za-z0-9_]hf_)(?:(?=[a-z]{0,200}[A-Z0-9])[A-Za-z0-9]{16,}|[a-z]{24,}))",
    ),
    _pattern(
        "key of a model service",  # one long run of letters and digits: a slug of words has none
        "sk- pk-",
        r"([sp]k-(?<![A-Za-z0-9_][sp]k-)(?=[\w-]{0,200}[A-Za-z0-9]{12})(?=[A-Za-z_-]{0,200}[0-9])"
        r"[A-Za-z0-9_-]{20,})",
    ),
    _pattern(
        "payment key",
        "k_live_ k_test_",
        r"([spr]k_(?<![A-Za-z0-9_][spr]k_)(?:live|test)_[A-Za-z0-9]{16,})",
    ),
    _pattern("GitHub token", "gh", r"(gh[pousr]_(?<![A-Za-z0-9_]gh._)[A-Za-z0-9]{16,})"),
    _pattern(
        "fine-grained GitHub token",
        "github_pat_",
        r"(github_pat_(?=[A-Za-z_]{0,80}[0-9])[A-Za-z0-9_]{16,})",
    ),
    _pattern("Slack token", "xox", r"(xox[abeprs]-(?=[A-Za-z-]{0,80}[0-9])[A-Za-z0-9-]{10,})"),
    _pattern("AWS access key", "AKIA", r"(AKIA(?<![A-Za-z0-9_]AKIA)[A-Z0-9]{16})(?![A-Za-z0-9_])"),
    _pattern(
        "Google key", "AIza", r"(AIza(?<![A-Za-z0-9_]AIza)[A-Za-z0-9_-]{35})(?![A-Za-z0-9_-])"
    ),
    _pattern(
        "private key",
        "PRIVATE",
        rf"({_HEADER.format('BEGIN')}"
        rf"(?:[A-Za-z0-9+/=\s\\]{{0,8000}}{_HEADER.format('END')})?)",
    ),
    _pattern(
        "bearer token",
        "earer",
        r"earer (?<=[Bb]earer )((?=[A-Za-z._~+/=-]{0,400}[0-9])[A-Za-z0-9._~+/=-]{8,}"
        r"|[A-Za-z._~+/=-]{24,})",
    ),
    _pattern(
        "password in an address",
        "://",
        r"://([^/\s:@\"'<>(),;{}\\\0]{1,100}:(?![{$%*[])[^/\s@\"'<>\\\0]{1,200})(?=@)",
    ),
    _pattern(
        "token in an address",
        "oken= OKEN= ey= EY=",
        r"[?&](?i:(?:access|api|auth|refresh)?[_-]?(?:token|key))="
        r"((?![{<$%*]|(?i:your))(?:(?=[^&\s\"'\0]{0,400}[0-9])[^&\s\"'\0]{8,}|[^&\s\"'\0]{16,}))",
    ),
)


def secret_places(text: str) -> Iterator[int]:
    """Index of the first character of each possible secret, one pattern after the other."""
    for one in _possible_in(text):
        for match in one.pattern.finditer(text):
            yield match.start(1)


def _possible_in(text: str) -> list[SecretPattern]:
    return [one for one in PATTERNS if any(hint in text for hint in one.hints)]


def redact(text: str) -> str:
    """Replace whatever looks like a secret, or is one in this process's environment.

    Names such as `n_tokens` and plain hashes stay. Idempotent.
    """
    for secret in _known_secrets(_environment()):
        text = text.replace(secret, HIDDEN)
    for one in _possible_in(text):
        text = one.pattern.sub(_hide, text)
    return text


def _hide(match: re.Match) -> str:
    start, end = (at - match.start() for at in match.span(1))
    return match[0][:start] + HIDDEN + match[0][end:]


def redact_facts(value: Any) -> Any:
    """Redact every text inside plain data (dicts, lists, texts)."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redact_facts(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [redact_facts(one) for one in value]
    return value


def _environment() -> tuple[str, ...]:
    return tuple(
        value for name, value in os.environ.items() if SECRET_NAME.search(name) and _is_long(value)
    )


def _is_long(value: str) -> bool:
    # paths and switches (TOKENIZERS_PARALLELISM=false) are no secrets
    return len(value) >= 8 and not value.startswith(("/", "~")) and value.lower() != "disabled"


@lru_cache(maxsize=4)
def _known_secrets(of_environment: tuple[str, ...]) -> tuple[str, ...]:
    """Longest first, so that a secret that contains another is replaced whole."""
    found = {*of_environment, *_saved_tokens()}
    return tuple(sorted(found, key=len, reverse=True))


def _saved_tokens() -> list[str]:
    """The token that `hf auth login` saved on this machine."""
    hub = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    path = Path(os.environ.get("HF_TOKEN_PATH") or Path(hub) / "token")
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return []
    return [text] if len(text) >= 8 else []
