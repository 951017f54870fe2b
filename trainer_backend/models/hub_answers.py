"""What the Hub says of a model, asked with a limit of seconds and kept in the home with its date.

Nothing is downloaded but small JSON files, and those not into the Hub cache: a newer config there
would hide the older weights from a machine that is offline later.
"""

import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import huggingface_hub as hub
from huggingface_hub import constants
from huggingface_hub import errors as hub_errors

from trainer_backend.errors import UserError
from trainer_backend.home import read_json, write_json
from trainer_backend.models.hub_errors import hub_failure, hub_not_reached
from trainer_backend.recipe import label

T = TypeVar("T")
SECONDS = 5.0  # for all questions about one model
CONNECT_S = 1.5  # a Hub that cannot even be connected to in this time is not there
SILENT_S = 30.0  # for this long a Hub that was not there is not asked again
MISSING_S = 600.0
MAX_KEPT = 500
MAX_FILES = 3_000
MAX_JSON = 4_000_000  # bytes
LONG_PARTS = ("id2label", "label2id", "task_specific_params")
FORMAT_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2, "F4": 0.5}
FAILURES = (hub_errors.HTTPError, hub_errors.EntryNotFoundError, OSError, ValueError)
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")


@dataclass(frozen=True)
class HubAnswer:
    """A model on the Hub: its files with their bytes, its config.json, its card."""

    base_model: str
    asked: str  # the day, as 2026-11-28
    commit: str = ""
    files: dict[str, int] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    stated_bytes: int | None = None  # of the weights, by their number formats
    licence: str = ""
    downloads: int | None = None  # of the last 30 days
    gated: bool = False
    readable: bool = True  # with the token of this machine, if there is one
    tags: tuple[str, ...] = ()
    library: str = ""
    chat_template: bool | None = None
    adapter_base: str = ""

    def bytes_of(self, *endings: str) -> int:
        """Bytes of the files at the top of the repository whose names end so."""
        found = self.files.items()
        return sum(size for name, size in found if name.endswith(endings) and "/" not in name)

    def original(self) -> str:
        """The model that this one was made from, as its card tells; "" if it does not."""
        marks = [tag.rpartition(":")[2] for tag in self.tags if tag.startswith("base_model:")]
        return self.adapter_base or next(iter(marks), "")


@dataclass
class _Reach:
    """When the Hub was last found silent, by its address, and when it last denied to have a model;
    shared by all pages of a process."""

    silent: dict[str, float] = field(default_factory=dict)
    missing: dict[str, float] = field(default_factory=dict)

    def is_missing(self, base_model: str) -> bool:
        denied = self.missing.get(base_model)
        return denied is not None and time.monotonic() - denied < MISSING_S

    def is_silent(self) -> bool:
        known = self.silent.get(constants.ENDPOINT)
        return known is not None and time.monotonic() - known < SILENT_S

    def note(self, answered: bool) -> None:
        if answered:
            self.silent.pop(constants.ENDPOINT, None)
        else:
            self.silent[constants.ENDPOINT] = time.monotonic()


REACH = _Reach()


def ask_hub(base_model: str) -> HubAnswer:
    """Ask the Hub about a model; takes two seconds when it is not there, five at most.

    Raises UserError: offline, unknown, private, busy. That a model is gated is part of the answer.
    """
    where = f"{label('base_model')} “{base_model[:200]}”"
    REACH.missing.pop(base_model, None)
    try:
        return within_reach(lambda: _ask(base_model), where)
    except UserError as error:
        if error.code == "hub_missing":
            REACH.missing[base_model] = time.monotonic()
        raise


def is_missing(base_model: str) -> bool:
    """Whether the Hub has denied to have a model in the last minutes."""
    return REACH.is_missing(base_model)


def within_reach(question: Callable[[], T], where: str) -> T:
    """The answer to a question to the Hub, at once or not at all. Raises UserError."""
    if constants.HF_HUB_OFFLINE or REACH.is_silent():
        raise hub_not_reached(where)
    try:
        _within(CONNECT_S, _connect)
        answer = _within(SECONDS, question)
    except FAILURES as error:
        problem = hub_failure(error, where) or hub_not_reached(where)
        REACH.note(answered=problem.code != "hub_down")
        raise problem from error
    REACH.note(answered=True)
    return answer


def _within(seconds: float, action: Callable[[], T]) -> T:
    """The result of an action that is given some seconds; TimeoutError, and it goes on unheard.

    Names are looked up without a limit of time, so no timeout of a client is enough.
    """
    results: list[T] = []
    failures: list[Exception] = []

    def act() -> None:
        try:
            results.append(action())
        except FAILURES as error:  # raised again by the caller's thread
            failures.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not results:
        raise TimeoutError("no answer in time")
    return results[0]


def _connect() -> bool:
    """Open a connection to the Hub, or to the proxy before it, and close it again."""
    address = urlsplit(constants.ENDPOINT)
    if not urllib.request.proxy_bypass(address.hostname or ""):
        proxies = urllib.request.getproxies()
        proxy = proxies.get(address.scheme) or proxies.get("all")
        if proxy:
            address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = address.port or (443 if address.scheme == "https" else 80)
    socket.create_connection((address.hostname or "", port), timeout=CONNECT_S).close()
    return True


def _ask(base_model: str) -> HubAnswer:
    info = hub.HfApi().model_info(base_model, files_metadata=True, timeout=SECONDS)
    files = {one.rfilename: one.size or 0 for one in (info.siblings or [])[:MAX_FILES]}
    answer = answer_of(info, files)
    wanted = ["config.json", "adapter_config.json"]
    if answer.chat_template is None:
        wanted.append("tokenizer_config.json")
    small: dict[str, dict[str, Any]] = {}
    try:
        for name in wanted:
            if name in files:
                small[name] = small_file(base_model, name, answer.commit)
    except hub_errors.GatedRepoError:
        answer = replace(answer, readable=False)
    config = small.get("config.json") or answer.config
    tokenizer, adapter = small.get("tokenizer_config.json"), small.get("adapter_config.json", {})
    return replace(
        answer,
        config={key: value for key, value in config.items() if key not in LONG_PARTS},
        chat_template=bool(tokenizer.get("chat_template")) if tokenizer else answer.chat_template,
        adapter_base=str(adapter.get("base_model_name_or_path") or "")[:200],
    )


def answer_of(info: hub.ModelInfo, files: dict[str, int]) -> HubAnswer:
    """What one entry of the Hub's own lists says of a model; the rest is left open."""
    config = info.config or {}
    card = info.card_data.to_dict() if info.card_data else {}
    tags = [str(tag)[:200] for tag in info.tags or []]
    licence = card.get("license_name") or card.get("license")
    if not licence or licence == "other":
        licence = next((t.partition(":")[2] for t in tags if t.startswith("license:")), licence)
    template = any(name in files for name in TEMPLATE_FILES)
    tokenizer = config.get("tokenizer_config")
    if not template and isinstance(tokenizer, dict):
        template = bool(tokenizer.get("chat_template") or config.get("chat_template_jinja"))
    known = template or isinstance(tokenizer, dict)
    return HubAnswer(
        info.id,
        datetime.now(UTC).date().isoformat(),
        info.sha or "",
        files,
        {name: config[name] for name in config if name != "tokenizer_config"},
        parameters=_parameters(info, config),
        stated_bytes=_stated_bytes(info),
        licence=str(licence or "")[:80],
        downloads=info.downloads,
        gated=bool(info.gated),
        tags=tuple(tags[:60]),
        library=str(info.library_name or "")[:60],
        chat_template=template if known else None,
    )


def _parameters(info: hub.ModelInfo, config: dict[str, Any]) -> int | None:
    """Parameters as the Hub counts them; two 4-bit values of bitsandbytes lie in one byte.

    Of its bytes one in 33 is a scale: one byte for 64 values.
    """
    if not info.safetensors:
        return None
    by_type = dict(info.safetensors.parameters)
    stored = config.get("quantization_config")
    if isinstance(stored, dict) and (stored.get("load_in_4bit") or stored.get("_load_in_4bit")):
        return sum(by_type.values()) + round(by_type.get("U8", 0) * (2 * 32 / 33 - 1))
    return info.safetensors.total


def _stated_bytes(info: hub.ModelInfo) -> int | None:
    """Bytes of the weights by the Hub's counts of numbers of each format."""
    if not info.safetensors:
        return None
    counts = info.safetensors.parameters.items()
    return round(sum(count * FORMAT_BYTES.get(kind, 1) for kind, count in counts)) or None


def small_file(base_model: str, name: str, commit: str) -> dict[str, Any]:
    """A JSON object of a repository; {} if it is none. Raises the errors of the Hub's client."""
    address = hub.hf_hub_url(base_model, name, revision=commit or None)
    headers = hub.utils.build_hf_headers()
    answer = hub.get_session().get(address, headers=headers, timeout=SECONDS, follow_redirects=True)
    hub.utils.hf_raise_for_status(answer)
    try:
        found = json.loads(answer.content[:MAX_JSON])
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def kept_answer(home: Path, base_model: str) -> HubAnswer | None:
    """The Hub's last answer about a model, as the home keeps it."""
    kept = read_json(_kept_file(home), {}).get(base_model)
    names = {one.name for one in fields(HubAnswer)}
    if not isinstance(kept, dict) or not {"base_model", "asked"} <= set(kept) <= names:
        return None
    return HubAnswer(**{**kept, "tags": tuple(kept.get("tags") or ())})


def keep_answer(home: Path, answer: HubAnswer) -> None:
    """Keep an answer in the home; the oldest ones go when there are many."""
    keep_answers(home, [answer], instead=True)


def keep_answers(home: Path, answers: list[HubAnswer], *, instead: bool = False) -> None:
    """Keep answers about models of which none is kept, or with `instead` in place of those."""
    kept = read_json(_kept_file(home), {})
    for answer in answers:
        if instead or answer.base_model not in kept:
            kept.pop(answer.base_model, None)
            kept[answer.base_model] = {**asdict(answer), "tags": list(answer.tags)}
    write_json(_kept_file(home), dict(list(kept.items())[-MAX_KEPT:]))


def _kept_file(home: Path) -> Path:
    return home / "models" / "hub_answers.json"
