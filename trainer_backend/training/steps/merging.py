"""The batches of one optimizer step computed at once, and in parts where memory is short.

The loss is a sum over tokens divided by the trained tokens of the whole step, so a step gives the
same gradient whether its documents are read together or one after another. The Trainer's loop,
its data loader and its settings stay as they are: it still counts every batch.
"""

import contextlib
import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer_backend.errors import is_out_of_memory
from trainer_backend.tokens.tokenise import IGNORED
from trainer_backend.training.batches import TRAINED_AT
from trainer_backend.training.distributed import any_process
from trainer_backend.training.steps.random_states import RandomStates

Batch = Mapping[str, Any]
Compute = Callable[[torch.nn.Module, Batch, Tensor | int | None], Tensor]
OWN = ("compute_loss", "training_step", "get_batch_samples")  # of which a subclass changes none
LENGTHS = "seq_lengths"


class Waiting(dict[str, Any]):
    """Stands for a batch that is computed with the last batch of its step."""


class NoRoomError(torch.OutOfMemoryError):
    """Memory ran out, also in the smallest parts; `tried` says so in words."""

    def __init__(self, message: str, tried: str):
        super().__init__(f"{message} {tried}")
        self.tried = tried


def is_joined(batch: Batch) -> bool:
    """Whether a batch is one row of whole documents, without anything else beside it."""
    lengths = batch.get(LENGTHS)
    if not lengths:
        return False
    shape = (1, sum(lengths))
    rest = (value for name, value in batch.items() if name not in (LENGTHS, TRAINED_AT))
    return all(isinstance(one, Tensor) and one.shape == shape for one in rest)


def join(batches: list[Batch]) -> dict[str, Any] | None:
    """Joined rows as one row, [1, tokens of all]; None where they cannot be joined."""
    if not all(is_joined(one) and one.keys() == batches[0].keys() for one in batches):
        return None
    row: dict[str, Any] = {
        name: torch.cat([one[name] for one in batches], dim=1)
        for name in batches[0]
        if name not in (LENGTHS, TRAINED_AT)
    }
    row[LENGTHS] = [n for one in batches for n in one[LENGTHS]]
    if TRAINED_AT in batches[0]:  # the first label of a batch is never trained
        starts = accumulate(map(_tokens, batches), initial=0)
        places = [one[TRAINED_AT] + at for one, at in zip(batches, starts, strict=False)]
        row[TRAINED_AT] = torch.cat(places)
    return row


def split(row: Batch, parts: int) -> list[dict[str, Any]]:
    """A joined row in up to `parts` rows of whole documents with about equal tokens."""
    starts = [0, *accumulate(row[LENGTHS])]
    tokens, count = starts[-1], len(starts) - 1
    inner = [at for at in range(1, count) if 0 < starts[at] < tokens]
    cuts = {0, count}
    if inner:
        ends = np.array([starts[at] for at in inner])
        for part in range(1, parts):
            cuts.add(inner[int(np.abs(ends - tokens * part / parts).argmin())])
    return [_documents(row, first, last, starts) for first, last in pairwise(sorted(cuts))]


def _documents(row: Batch, first: int, last: int, starts: list[int]) -> dict[str, Any]:
    tokens = slice(starts[first], starts[last])
    names = [name for name in row if name not in (LENGTHS, TRAINED_AT)]
    part = {name: row[name][:, tokens] for name in names}
    return {**part, LENGTHS: list(row[LENGTHS][first:last])}


def _tokens(part: Batch) -> int:
    return sum(part[LENGTHS])


def _largest(parts: list[dict[str, Any]]) -> int:
    return max(map(_tokens, parts))


@dataclass
class MergedSteps:
    """Computes each optimizer step of a trainer at once, or in parts of at most `most` tokens.

    `able`: a batch can be computed in parts. Not where it is no joined row (a padded model, images,
    an own collator), where the loss is no sum over tokens (`compute_loss_func`, the load-balancing
    loss of routers, a subclass with its own step), and where the model is sharded.
    `joins`: the batches of a step become one row. `retries`: when memory runs out, the step is done
    again in more parts.
    """

    trainer: Any
    able: bool
    joins: bool
    retries: bool
    most: int | None = None  # tokens computed at once; None: the whole step
    _whole: bool = True  # the batch at hand is all of its step: no gradient is older

    @classmethod
    def of(cls, trainer: Any) -> "MergedSteps":
        """What a trainer's model, settings and devices allow."""
        args, alone = trainer.args, trainer.args.world_size == 1
        able, wanted = can_merge(trainer), args.merge_batches
        if wanted is None:  # several processes cannot retry a step: one would wait for the other
            wanted = pays_on(args.device.type) and alone
        joins = able and wanted and args.gradient_accumulation_steps > 1
        whole = joins or args.gradient_accumulation_steps == 1
        return cls(trainer, able, joins, retries=able and whole and alone)

    def waiting(self, batches: list[Batch]) -> list[Batch]:
        """The batches of a step as the Trainer's loop takes them, their work in the last one.

        The others do nothing, so that the loop counts, resumes and schedules as without merging.
        """
        row = join(batches) if self.joins and len(batches) > 1 else None
        self._whole = row is not None or len(batches) == 1
        if row is None:
            return batches
        count = self.trainer.args.gradient_accumulation_steps
        self.trainer.paths.say(
            f"The {count} batches of each optimizer step are computed at once: the same result, "
            "with fewer and larger products."
        )
        empty = Waiting(input_ids=row["input_ids"][:, :0])
        return [*(empty for _ in batches[1:]), row]

    def run(
        self,
        compute: Compute,
        model: torch.nn.Module,
        inputs: Batch,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """The loss of a batch after its backward pass; of one that waits: 0.

        Raises NoRoomError when memory runs out in parts of one document too.
        """
        if isinstance(inputs, Waiting):
            return torch.zeros((), device=self.trainer.args.device)
        retries = self.retries and self._whole
        if not (retries or self.most) or not is_joined(inputs):
            return self._as_it_is(compute, model, inputs, num_items_in_batch)
        if retries:
            return self._retried(compute, model, inputs, num_items_in_batch, lambda: None)
        return self._compute(compute, model, self._parts(inputs), num_items_in_batch)

    @property
    def rows_at_once(self) -> int:
        """Rows of the dataset that are computed together unless memory is short."""
        args = self.trainer.args
        batches = args.gradient_accumulation_steps if self.joins else 1
        return args.per_device_train_batch_size * batches

    def try_out(
        self,
        compute: Compute,
        model: torch.nn.Module,
        row: Batch,
        check: Callable[[], None],
    ) -> None:
        """Find the parts in which a large step fits, by computing it; gradients are dropped.

        `check` is called after each try and may raise an out-of-memory error as well. A collective
        call: every process gives the same row, and all come to the same parts.
        """
        if self.able and is_joined(row):
            self._retried(compute, model, row, None, check, trial=True)
            model.zero_grad()
        else:
            self._undivided(compute, model, row, None, check, trial=True)
            model.zero_grad()

    def _as_it_is(
        self, compute: Compute, model: torch.nn.Module, batch: Batch, items: Tensor | int | None
    ) -> Tensor:
        """A batch that is not computed in parts; where that can be done again, with less kept."""
        args = self.trainer.args
        if args.world_size > 1 or args.gradient_accumulation_steps > 1:
            return compute(model, batch, items)  # gradients of others would be lost
        return self._undivided(compute, model, batch, items, lambda: None)

    def _undivided(
        self,
        compute: Compute,
        model: torch.nn.Module,
        batch: Batch,
        items: Tensor | int | None,
        check: Callable[[], None],
        *,
        trial: bool = False,
    ) -> Tensor:
        """Compute a batch as it is, each time keeping less, until it goes through or fails."""
        while True:
            if self.trainer.long_rows.next_way() is None:  # the same on every process
                loss = compute(model, batch, items)
                check()
                return loss
            before, failed = _Before(self.trainer), False
            loss = torch.zeros(())
            try:
                loss = compute(model, batch, items)
                check()
            except (MemoryError, RuntimeError) as error:
                failed = is_out_of_memory(error)
                if not failed:
                    raise
            if not (any_process(failed) if trial else failed):
                return loss
            before.restore(model)
            self.trainer.long_rows.step_up()

    def _retried(
        self,
        compute: Compute,
        model: torch.nn.Module,
        row: Batch,
        items: Tensor | int | None,
        check: Callable[[], None],
        *,
        trial: bool = False,
    ) -> Tensor:
        """Compute a step until it goes through, each time in more parts than before."""
        tried: list[int] = []
        before = _Before(self.trainer)
        while True:
            parts, failed = self._parts(row), ""
            tried.append(len(parts))
            loss = torch.zeros(())
            try:
                loss = self._compute(compute, model, parts, items, alone=trial)
                check()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                failed = str(error).partition("\n")[0] or "Out of memory."
            if not (any_process(bool(failed)) if trial else failed):
                return loss
            before.restore(model)
            if _largest(parts) > max(row[LENGTHS]):
                self._smaller(row, parts)
            elif self.trainer.long_rows.step_up():
                self.most, tried = None, []  # less is kept of more tokens
            else:
                why = failed or "Another process ran out of memory."
                raise NoRoomError(why, _tried_in_words(tried, self.trainer.long_rows.added))

    def _smaller(self, row: Batch, parts: list[Any]) -> None:
        """Lower `most` until the largest part of the row is smaller."""
        largest, tokens, count = _largest(parts), _tokens(row), len(parts)
        while True:
            count *= 2
            most = -(-tokens // count)
            if _largest(split(row, -(-tokens // most))) < largest:
                break
        self.limit(most, f"the memory of the device ran out at {largest:,}")

    def limit(self, most: int, why: str) -> None:
        """Compute at most so many tokens at once (one document is never split), and say why."""
        self.most = most
        self.trainer.paths.say(
            f"Optimizer steps of more than {most:,} tokens are computed in parts, because {why}: "
            "the same result, slower."
        )

    def _parts(self, row: Batch) -> list[dict[str, Any]]:
        if self.most is None or _tokens(row) <= self.most:
            return [dict(row)]
        return split(row, -(-_tokens(row) // self.most))

    def _compute(
        self,
        compute: Compute,
        model: torch.nn.Module,
        parts: list[dict[str, Any]],
        items: Tensor | int | None,
        *,
        alone: bool = False,
    ) -> Tensor:
        """The summed loss of the parts; processes share gradients after the last, `alone` never."""
        losses = []
        if items is None and len(parts) > 1:
            items = torch.stack([(part["labels"] != IGNORED).sum() for part in parts]).sum()
        for at, part in enumerate(parts):
            last = at == len(parts) - 1 and not alone
            quiet = contextlib.nullcontext() if last else self.trainer.accelerator.no_sync(model)
            with quiet:
                losses.append(compute(model, part, items))
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()


def pays_on(device_type: str) -> bool:
    """Whether one large row is faster than several batches: products of few rows leave a GPU idle,
    while a CPU is busy with any of them."""
    return device_type == "cuda"


def can_merge(trainer: Any) -> bool:
    """Whether a trainer's steps are sums over the tokens of joined rows, on an unsharded model."""
    shared = [trainer.get_tp_size(), trainer.get_cp_size(), trainer.get_sp_size()]
    shared.append(1 + bool(getattr(trainer.args, "context_parallel", False)))
    return (
        sums_joined_rows(trainer)
        and not is_changed(trainer, *OWN)
        and not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)
        and max(shared) == 1
    )


def sums_joined_rows(trainer: Any) -> bool:
    """Whether a trainer's batches are joined rows and its loss a sum over their tokens."""
    return (
        trainer._traits.packs
        and getattr(trainer._usual, "padding_free", False)
        and trainer.data_collator is trainer._usual
        and trainer.compute_loss_func is None
        and not trainer.aux_loss_enabled
    )


def is_changed(trainer: Any, *names: str) -> bool:
    """Whether a script has put methods of its own in the place of these."""
    ours = __name__.partition(".")[0] + "."
    return any(not getattr(type(trainer), name).__module__.startswith(ours) for name in names)


class _Before:
    """Random states and training metrics before a step, to do it again from the same state."""

    def __init__(self, trainer: Any):
        self._meter, self._masters = trainer._meters["train"], trainer._masters
        self._counted = vars(self._meter).copy()
        self._device, self._graphs = trainer.args.device, trainer.graphs
        self._random = RandomStates.now(self._device)

    def restore(self, model: torch.nn.Module) -> None:
        """Go back: without gradients, and with the memory of the failed step free."""
        model.zero_grad()
        self._masters.forget()
        self._graphs.give_up("the memory of the device ran out")
        vars(self._meter).update(self._counted)
        self._random.restore()
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)  # of the steps as they are now


def _tried_in_words(tried: list[int], added: list[str]) -> str:
    *first, last = [str(n) for n in tried]
    also = f" with {' and '.join(added)} too" if added else ""
    if not first:
        return f"The longest example alone does not fit{also and ','}{also}."
    counts = f"{', '.join(first)} and {last}"
    return f"Tried in {counts} parts{also}; the longest example alone does not fit."
