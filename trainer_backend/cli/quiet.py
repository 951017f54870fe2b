"""Keeps what libraries print off the terminal: it belongs to the commands' own lines.

Errors still pass; a run's log is not touched.
"""

import logging
import os
import warnings

_CHATTY = ("bitsandbytes", "datasets", "huggingface_hub", "httpx", "accelerate", "peft", "gguf")


def quiet_libraries() -> None:
    """Silence progress bars, notices and warnings. Call it where torch is needed anyway.

    The commands have a line of their own for downloads.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    for kind in (FutureWarning, DeprecationWarning, UserWarning):
        warnings.filterwarnings("ignore", category=kind)
    from datasets import disable_progress_bars
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    disable_progress_bars()
    disable_progress_bar()
    set_verbosity_error()
