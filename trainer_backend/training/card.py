"""The model card: the README.md that a trainer writes beside the weights it saves.

No run folder is known here.
"""

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub import ModelCardData
from peft import PeftModel
from transformers import TrainerState

from trainer_backend.models import hub_id
from trainer_backend.models.loaded.pretrained import AnyModel
from trainer_backend.models.snippets import ADAPTER_CODE, MERGED_CODE, VISION_CODE
from trainer_backend.tokens.prepare import Counts

TAGS = ("sft", "sft-studio")
LIBRARY = "SFT Studio"
_PACKAGES = ("torch", "transformers", "peft", "datasets")


class Trained(Protocol):
    """What the card reads of a trainer."""

    model: Any
    args: Any  # SFTConfig
    state: TrainerState

    @property
    def data_counts(self) -> dict[str, Counts]:
        """Rows by dataset."""


def write_card(
    trainer: Trained,
    folder: str | Path,
    name: str | None = None,
    tags: Iterable[str] = (),
    facts: dict[str, Any] | None = None,
) -> None:
    """Write README.md into a folder of saved weights; nothing is uploaded.

    `facts` are further fields of the Hub's metadata block (ModelCardData).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = name or Path(str(trainer.args.output_dir)).name
    text = card_text(trainer, name, tags, facts or {})
    (folder / "README.md").write_text(text, encoding="utf-8")


def card_text(trainer: Trained, name: str, tags: Iterable[str], facts: dict[str, Any]) -> str:
    """The card in Markdown: metadata block for the Hub, settings, and code that loads the model."""
    base = base_name(trainer.model)
    shown = base.rstrip("/").split("/")[-1] if base.startswith(("/", ".")) else base
    rows = "\n".join(f"| {key} | {value} |" for key, value in _settings(trainer).items())
    return (
        f"{_head(trainer.model, name, tags, facts)}# {name}\n\n"
        f"Fine-tuned from {shown or 'a model built in code'} with the SFTTrainer of {LIBRARY}.\n\n"
        f"| | |\n| --- | --- |\n{rows}\n\n"
        f"```python\n{_code(trainer.model).format(folder=name)}```\n"
    )


def _head(model: AnyModel, name: str, tags: Iterable[str], facts: dict[str, Any]) -> str:
    """The metadata block of the Hub; paths of this machine are left out."""
    known: dict[str, Any] = {
        "base_model": hub_id(base_name(model)),
        "library_name": "peft" if isinstance(model, PeftModel) else "transformers",
        "model_name": name,
        "tags": [*TAGS, *tags],
    }
    given = {  # YAML as the Hub reads it has lists, no tuples
        key: list(value) if isinstance(value, tuple) else value
        for key, value in facts.items()
        if value
    }
    return f"---\n{ModelCardData(**{**known, **given}).to_yaml()}\n---\n\n"


def _code(model: AnyModel) -> str:
    if isinstance(model, PeftModel):
        return ADAPTER_CODE
    sees = getattr(model.config, "vision_config", None) is not None
    return VISION_CODE if sees else MERGED_CODE


def base_name(model: AnyModel) -> str:
    """Hub id or folder of the base model; empty for one that was built in code."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    return getattr(inner.config, "_name_or_path", "") or ""


def _settings(trainer: Trained) -> dict[str, str]:
    args, state = trainer.args, trainer.state
    losses, held_out = (  # a NaN loss is logged as None
        [row[name] for row in state.log_history if row.get(name) is not None]
        for name in ("loss", "eval_loss")
    )
    counts = trainer.data_counts.get("train")
    found = {
        "Method": _method(trainer.model),
        "Rows": f"{counts.rows - counts.dropped:,}" if counts and counts.rows else "",
        "Steps": f"{state.global_step:,}",
        "Learning rate": f"{args.learning_rate:g}",
        "Longest row": f"{args.max_length} tokens" if args.max_length else "",
        "Loss at the end": f"{losses[-1]:.4f}" if losses else "",
        "Held-out loss": f"{held_out[-1]:.4f}" if held_out else "",
        "Made with": ", ".join(f"{package} {version(package)}" for package in _PACKAGES),
    }
    return {key: value for key, value in found.items() if value}


def _method(model: AnyModel) -> str:
    if not isinstance(model, PeftModel):
        return "all weights"
    config = model.active_peft_config
    rank = getattr(config, "r", None)
    quantised = " on a quantised base" if getattr(model, "is_quantized", False) else ""
    return f"{config.peft_type.value}{f', rank {rank}' if rank else ''}{quantised}"
