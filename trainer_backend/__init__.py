"""SFT Studio's training library: data to tokens, training, and runs that survive.

No page lives here.

The map: errors, home, recipe, presets, hardware (plain facts) < data/ (files to messages to tokens)
< runs, scheduler (run folders, torch-free) < model, sft_trainer, train, chat, export (torch).
"""

from importlib import import_module

_LAZY = {"SFTTrainer": "training.sft_trainer", "SFTConfig": "training.sft_config"}


def __getattr__(name: str):
    """Import the trainer on first use, so that the web process never pays for torch."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


__all__ = ["SFTConfig", "SFTTrainer"]
