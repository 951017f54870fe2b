"""The disk space of a run: checkpoints that are kept, and the download of a model.

Whether it is free is checked by whoever asks; checkpoints are written elsewhere.
"""

from trainer_backend.disk import GIB
from trainer_backend.estimation.memory import Setup, optimizer_bytes, trained_weights

RESERVE_BYTES = GIB
KEPT = 3  # checkpoints: the two newest and the best
EXTRA_BYTES = 8 * 2**20  # tokenizer, settings, curves


def checkpoints_bytes(setup: Setup) -> int:
    """Bytes of the checkpoints of a run that exist at once: those kept, and one being written."""
    return min(max(1, setup.plan.saves), KEPT + 1) * checkpoint_bytes(setup)


def checkpoint_bytes(setup: Setup) -> int:
    """Bytes of one checkpoint: an adapter or the whole model, with the optimizer's state."""
    trained = trained_weights(setup.shape, setup.recipe).weights
    each = 2 if setup.quantized and not setup.full else 4
    return trained * each + optimizer_bytes(trained, setup.recipe) + EXTRA_BYTES
