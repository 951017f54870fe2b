"""Facts of a base model before it is loaded: where it is, its sizes, licence, chat template."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer_backend.errors import Problem


@dataclass(frozen=True)
class ModelFacts:
    """Facts of a base model; None or "" stands for not known.

    `place` is "starter", "folder", "cache" (the Hub cache of this machine), "hub", or "unknown"
    (nobody could be asked). `config` is its config.json, or the sizes that a model preset states.
    """

    base_model: str
    place: str
    config: dict[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    weight_bytes: int | None = None  # of its safetensors files
    download_bytes: int | None = None  # 0 when everything is on this machine
    bits: int | None = None  # 4 or 8: weights stored quantized
    licence: str = ""
    gated: bool | None = None
    downloads: int | None = None  # a month, as the Hub counts
    chat_template: bool | None = None
    instruct: bool | None = None  # False: a base model that was not trained to chat
    images: bool = False
    problem: Problem | None = None  # why it cannot be trained, or what is not certain


def model_facts(home: Path, base_model: str, *, ask_hub: bool = False) -> ModelFacts:
    """What is known of a model.

    Without `ask_hub` only files of this machine, model presets and earlier answers of the Hub are
    read (a few milliseconds); with it the Hub is asked, for at most five seconds. Nothing is
    raised: what is wrong stands in `problem`.
    """
    raise NotImplementedError
