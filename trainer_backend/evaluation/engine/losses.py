"""The loss of held-out rows, one sum for each few rows: the trainer's own, token for token.

What is averaged over all rows, and between which models it is compared, is not decided here.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel

from trainer_backend.errors import is_out_of_memory
from trainer_backend.evaluation.limits import rows_in_group
from trainer_backend.models.loaded.pretrained import AnyModel, input_embedding
from trainer_backend.training.capabilities import (
    ModelTraits,
    causal_lm,
    probe_model,
    whole_mask,
)
from trainer_backend.training.kernels.attention import document_layout
from trainer_backend.training.loss import (
    LossSpec,
    TokenSums,
    install_fused_head,
    model_logits_loss,
    uses_router,
)
from trainer_backend.training.trainer_data import TrainerData


@dataclass(frozen=True)
class GroupLoss:
    """Some rows: their summed cross-entropy in nats, and the number of tokens in it."""

    nats: float
    tokens: int


@dataclass
class HeldOutRows:
    """Prepared rows, and how they become batches.

    `known` is a model that a trainer has prepared, with what it found; others are probed. `context`
    is entered around each forward pass of that model (a trainer's autocast).
    """

    rows: Dataset
    data: TrainerData
    most: int  # rows of a batch
    known: tuple[PreTrainedModel, ModelTraits] | None = None
    context: Callable[[], AbstractContextManager[Any]] = nullcontext

    def groups(self) -> list[list[int]]:
        """The rows of each group, in order."""
        size = rows_in_group(len(self.rows), self.most)
        places = range(len(self.rows))
        return [list(places[at : at + size]) for at in range(0, len(places), size)]

    def losses(
        self, model: AnyModel, done: Callable[[int], None] = lambda groups: None
    ) -> list[GroupLoss]:
        """The loss of each group; `done` is called with the number of groups that are done.

        Raises RuntimeError or MemoryError without memory for a single row.
        """
        traits = self._traits(causal_lm(model))
        reader = _Reader(self, model, traits)
        found = []
        with torch.no_grad(), evaluated(model):
            for group in self.groups():
                sums = reader.of(group)
                found.append(GroupLoss(float(sums.loss), int(sums.trained)))
                done(len(found))
        return found

    def _traits(self, model: PreTrainedModel) -> ModelTraits:
        if self.known and self.known[0] is model:
            return self.known[1]
        traits = probe_model(model, LossSpec())
        if traits.spec is not None:
            install_fused_head(model, traits.spec)
        self.known = model, traits
        return traits


@dataclass
class _Reader:
    """Reads batches of rows with one model."""

    held: HeldOutRows
    model: AnyModel
    traits: ModelTraits

    def of(self, places: Sequence[int]) -> TokenSums:
        """The sums of some rows; without memory for all of them at once, of parts of them."""
        try:
            return self._sums(places)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or len(places) == 1:
                raise
        half = len(places) // 2
        first, second = self.of(places[:half]), self.of(places[half:])
        return TokenSums(*(one + two for one, two in zip(first, second, strict=True)))

    def _sums(self, places: Sequence[int]) -> TokenSums:
        collate, _ = self.held.data.collators(self.traits.packs)
        batch: Any = collate([self.held.rows[at] for at in places])
        lengths, labels = batch.pop("seq_lengths", None), batch.pop("labels")
        device = input_embedding(self.model).device
        inputs = {
            name: one.to(device) if isinstance(one, torch.Tensor) else one
            for name, one in batch.items()
        }
        labels = labels.to(device)
        with document_layout(lengths), self.held.context():
            if lengths and self.traits.takes_mask and not uses_router(causal_lm(self.model)):
                inputs["attention_mask"] = whole_mask(inputs["input_ids"])
            if self.traits.spec is None:
                outputs = self.model(**inputs, use_cache=False)
                return model_logits_loss(outputs.logits, labels, LossSpec())
            out = self.model(**inputs, labels=labels, fused_loss=True)
        return TokenSums(out.loss, out.correct, out.entropy, out.trained)


@contextmanager
def evaluated(model: AnyModel) -> Iterator[None]:
    """Evaluation mode; afterwards every module is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
