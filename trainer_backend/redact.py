"""Takes secrets out of text before it is kept: tokens, keys, passwords in addresses.

Where text is kept is run_writer.py and worker_log.py.
"""

import os
import re
from functools import lru_cache
from pathlib import Path

HIDDEN = "‹secret›"
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|ACCESS_?KEY|CREDENTIAL|WEBHOOK", re.I)
PATTERNS = (
    re.compile(r"\bhf_[A-Za-z0-9]{16,}"),
    re.compile(r"\b(?:sk|pk|ghp|gho|github_pat|xox[abp])[-_][A-Za-z0-9_-]{16,}"),
    re.compile(r"\bAKIA[A-Z0-9]{16}\b"),
    re.compile(r"(?<=Bearer )[A-Za-z0-9._~+/=-]{8,}", re.I),
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),
    re.compile(r"(?<=[?&]token=)[^&\s\"']+|(?<=[?&]key=)[^&\s\"']+", re.I),
)


def redact(text: str) -> str:
    """The text without what looks like a secret, or is one in this process's environment.

    Names such as `n_tokens` and plain hashes stay legible. Doing it twice changes nothing.
    """
    for secret in _known_secrets(_environment()):
        text = text.replace(secret, HIDDEN)
    for pattern in PATTERNS:
        text = pattern.sub(HIDDEN, text)
    return text


def redact_facts(value: object) -> object:
    """The same for every text inside plain data."""
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
    # a folder of tokenizers or a switch (TOKENIZERS_PARALLELISM=false) is no secret
    return len(value) >= 8 and not value.startswith(("/", "~")) and value.lower() != "disabled"


@lru_cache(maxsize=4)
def _known_secrets(of_environment: tuple[str, ...]) -> tuple[str, ...]:
    """Longest first, so that none hides a part of another."""
    found = {*of_environment, *_saved_tokens()}
    return tuple(sorted(found, key=len, reverse=True))


def _saved_tokens() -> list[str]:
    """The token `hf auth login` left on this machine."""
    hub = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    path = Path(os.environ.get("HF_TOKEN_PATH") or Path(hub) / "token")
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return []
    return [text] if len(text) >= 8 else []
