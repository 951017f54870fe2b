"""The training library: data to tokens, training, run folders. It has no page.

Importing it is cheap: `SFTTrainer`, `SFTConfig` and `evaluate` load torch on first use,
`estimate` never does.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_LAZY = {"SFTTrainer": "training.sft_trainer", "SFTConfig": "training.sft_config"}
_LAZY |= {"estimate": "estimation.estimate", "evaluate": "evaluation.evaluate"}


def __getattr__(name: str) -> Any:
    """Import the trainer on first use, so that the web process never loads torch."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


__all__ = ["SFTConfig", "SFTTrainer", "__version__", "estimate", "evaluate"]
