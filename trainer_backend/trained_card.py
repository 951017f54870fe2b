"""The README.md that a trainer writes beside the weights it saves.

The page of an exported run is model_card.py.
"""

import re
from importlib.metadata import version
from pathlib import Path

import yaml
from peft import PeftModel

TAGS = ("sft", "sft-studio")
LIBRARY = "SFT Studio"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PACKAGES = ("torch", "transformers", "peft", "datasets")
_ADAPTER_CODE = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
"""
_MODEL_CODE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
"""
_VISION_CODE = """\
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{name}")
processor = AutoProcessor.from_pretrained("{name}")
"""


def write_card(trainer, folder, name: str | None = None, tags=(), facts: dict | None = None):
    """Write README.md into a folder with saved weights. Nothing is sent anywhere."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = name or Path(trainer.args.output_dir).name
    text = card_text(trainer, name, tags, facts or {})
    (folder / "README.md").write_text(text, encoding="utf-8")


def card_text(trainer, name: str, tags, facts: dict) -> str:
    """The card: a metadata block for the Hub, what was trained on what, and code to use it."""
    base = base_name(trainer.model)
    adapter = isinstance(trainer.model, PeftModel)
    head = {
        "library_name": "peft" if adapter else "transformers",
        "model_name": name,
        "tags": list(dict.fromkeys([*TAGS, *tags])),
        **{key: value for key, value in facts.items() if value},
    }
    if _HUB_ID.fullmatch(base):  # the Hub knows no folders of this machine
        head = {"base_model": base, **head}
    shown = base.rstrip("/").split("/")[-1] if base.startswith(("/", ".")) else base
    code = _ADAPTER_CODE if adapter else _MODEL_CODE
    if not adapter and getattr(trainer.model.config, "vision_config", None) is not None:
        code = _VISION_CODE
    rows = "\n".join(f"| {key} | {value} |" for key, value in _settings(trainer).items())
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n# {name}\n\n"
        f"Fine-tuned from {shown or 'a model built in code'} with the SFTTrainer of {LIBRARY}.\n\n"
        f"| | |\n| --- | --- |\n{rows}\n\n```python\n{code.format(name=name)}```\n"
    )


def base_name(model) -> str:
    """Where the base model came from; empty for one that was built in code."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    return getattr(inner.config, "_name_or_path", "") or ""


def _settings(trainer) -> dict[str, str]:
    args, state = trainer.args, trainer.state
    losses, held_out = (  # a loss that was no number is kept as None
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


def _method(model) -> str:
    if not isinstance(model, PeftModel):
        return "all weights"
    config = model.active_peft_config
    rank = getattr(config, "r", None)
    quantised = " on a quantised base" if getattr(model, "is_quantized", False) else ""
    return f"{config.peft_type.value}{f', rank {rank}' if rank else ''}{quantised}"
