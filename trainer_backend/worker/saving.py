"""Saves checkpoints: only finite weights, committed and rotated; a full disk costs one save."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import SafetensorError

from trainer_backend.disk import free_bytes, in_words, is_disk_full, size_of
from trainer_backend.runs import RunWriter, commit, disk_full, rotate
from trainer_backend.runs.files import CHECKPOINTS
from trainer_backend.training.distributed import any_process
from trainer_backend.worker.nan_guard import weights_are_finite

logger = logging.getLogger(__name__)


class Saving:
    """Saves and commits checkpoints; refuses weights that are not finite, survives a full disk."""

    def __init__(self, writer: RunWriter):
        self.writer = writer
        self.bad_weights = False
        self.saves = 0  # checkpoints committed
        self._no_room = self._warned = False

    def save(self, write: Callable[[], None], model: torch.nn.Module, step: int) -> None:
        """Write the checkpoint folder of a step with `write`, or leave none and remember why."""
        self.writer.enter("saving")
        self._no_room = False
        self.bad_weights = not weights_are_finite(model)
        if self.bad_weights:
            self.writer.warn(f"The weights of step {step} are NaN or infinite and were not saved.")
            return
        try:
            write()
        except (OSError, RuntimeError, SafetensorError) as error:
            self._skip(error, step)

    def _skip(self, error: Exception, step: int) -> None:
        """Delete a half-written checkpoint if the disk is full; raises any other error."""
        if not is_disk_full(error):
            raise error
        path = self._folder(step)
        written, kept = size_of(path), self.writer.run.checkpoints()
        shutil.rmtree(path, ignore_errors=True)
        needed = max(size_of(kept[-1].path), written) if kept else written
        free = free_bytes(path.parent)
        self._no_room = True
        self.writer.event("save_failed", step=step, needed=needed, free=free)
        if self._warned:
            return  # warn once, not at every save
        self._warned = True
        self.writer.warn(
            f"The disk is full: the checkpoint of step {step} needs {in_words(needed)}, "
            f"{in_words(free)} are free. Training continues; delete old runs or exports."
        )

    def _folder(self, step: int) -> Path:
        return self.writer.run.dir / CHECKPOINTS / f"checkpoint-{step}"

    def commit(self, step: int, eval_loss: float | None, *, last: bool) -> bool:
        """Commit the checkpoint of a step and rotate the others; False if none was saved.

        Raises UserError if the disk is too full for the last checkpoint of this training.
        """
        if dist.is_initialized():
            dist.barrier()  # every process has written its part
        if self.bad_weights:
            return False
        if self.writer.enabled and not self._no_room:
            self._commit(step, eval_loss)
        if any_process(self._no_room):
            if last:
                raise disk_full(self.writer.run)
            return False
        return True

    def _commit(self, step: int, eval_loss: float | None) -> None:
        path = self._folder(step)
        try:
            commit(path, step, eval_loss, run=self.writer.run.id)
        except OSError as error:
            self._skip(error, step)
            return
        self.saves += 1
        rotate(path.parent)
        self.writer.event("checkpoint", step=step)
        logger.info("checkpoint of step %d saved", step)
