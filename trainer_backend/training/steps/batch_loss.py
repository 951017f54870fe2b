"""The loss of one batch: the model called in the way it allows, token losses brought to a scalar.

How the loss of tokens is computed is decided elsewhere.
"""

from typing import Any

import torch
from torch import Tensor

from trainer_backend.training.batches import TRAINED_AT
from trainer_backend.training.capabilities import asked_loss, has_virtual_tokens, whole_mask
from trainer_backend.training.kernels.attention import Layout, document_layout
from trainer_backend.training.loss import TokenSums, model_logits_loss
from trainer_backend.training.metrics import num_tokens
from trainer_backend.training.neftune import noise_by_length
from trainer_backend.training.steps.context import OWN_TOKENS
from trainer_backend.training.steps.filling import Row


def batch_loss(
    trainer: Any,
    model: torch.nn.Module,
    inputs: dict[str, Any],
    with_logits: bool,
    items: Tensor | int | None,
) -> tuple[Tensor, Any]:
    """The scalar loss of a batch and the model's outputs, with logits where they are asked for.

    `items` are the trained tokens of all accumulated batches (None: of this batch).
    """
    if trainer.aux_loss_enabled:
        inputs["output_router_logits"] = True  # vision models ignore their config here
    lengths, labels = inputs.pop("seq_lengths", None), inputs.pop("labels")
    chosen, shared = inputs.pop(TRAINED_AT, None), inputs.pop(OWN_TOKENS, None)
    tokens = num_tokens(inputs) if shared is None else shared
    row = Row(inputs, labels, lengths)
    if trainer._filling is not None and trainer.model.training and shared is None:
        row = trainer._filling.fill(row)
    outputs, sums = row_sums(trainer, model, row, chosen, with_logits)
    if trainer.compute_loss_func is not None:
        loss = trainer.compute_loss_func(outputs, row.labels, num_items_in_batch=items)
    else:
        loss = mean_of(sums, sums.trained if items is None else items)
    if trainer.args.average_tokens_across_devices and items is not None:
        loss = loss * (trainer.accelerator.num_processes // trainer.get_tp_size())
    aux = outputs.get("aux_loss") if trainer.aux_loss_enabled else None
    if aux is not None:
        steps = 1 if items is None else trainer.current_gradient_accumulation_steps
        loss = loss + trainer.router_aux_loss_coef * aux.to(loss.device) / steps
    meter = trainer._meters["train" if trainer.model.training else "eval"]
    meter.add(sums, tokens, aux)
    return loss, outputs


def mean_of(sums: TokenSums, count: Tensor | int) -> Tensor:
    """The summed loss by the number of tokens."""
    return sums.loss / torch.as_tensor(count, device=sums.loss.device).clamp(min=1)


def row_sums(
    trainer: Any,
    model: torch.nn.Module,
    row: Row,
    chosen: Tensor | None,
    with_logits: bool,
    ignores: bool = False,
) -> tuple[Any, TokenSums]:
    """The model's outputs and its token sums for a batch.

    `chosen` are the places of trained labels, if they are known; with `ignores` some of them may be
    untrained all the same.
    """
    inputs, labels, lengths = row
    sizes = None if isinstance(lengths, Layout) else lengths  # noise is never drawn for the former
    with document_layout(lengths), noise_by_length(sizes, inputs.get("attention_mask")):
        if lengths and trainer._traits.takes_mask and not trainer.aux_loss_enabled:
            inputs = {**inputs, "attention_mask": whole_mask(inputs["input_ids"])}
        return _outputs(trainer, model, inputs, labels, chosen, with_logits, ignores)


def _outputs(  # noqa: PLR0913 - the parts of a batch
    trainer: Any,
    model: torch.nn.Module,
    inputs: dict[str, Any],
    labels: Tensor,
    chosen: Tensor | None,
    with_logits: bool,
    ignores: bool,
) -> tuple[Any, TokenSums]:
    """The model's outputs and its token sums, by the fused head unless logits are needed."""
    if with_logits or trainer._traits.spec is None or trainer.compute_loss_func is not None:
        own_loss = {} if trainer.compute_loss_func is None else {"labels": labels}
        outputs = model(**inputs, **own_loss, use_cache=False)
        spec = asked_loss(trainer.args)
        spec = spec if model.training else spec.held_out()
        return outputs, model_logits_loss(outputs.logits, labels, spec, chosen)
    if has_virtual_tokens(trainer.model):
        chosen = None  # every place is later by those tokens
    left_out = {"some_ignored": True} if ignores else {}
    outputs = model(**inputs, labels=labels, fused_loss=True, trained_at=chosen, **left_out)
    return outputs, TokenSums(outputs.loss, outputs.correct, outputs.entropy, outputs.trained)
