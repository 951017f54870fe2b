"""Probes a model for packing and the fused loss with a few tiny forward passes.

So an unknown architecture falls back to padding and its own logits instead of training wrongly.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from trainer_backend.models.loaded.pretrained import AnyModel, input_embedding
from trainer_backend.training.adapters import is_quantised
from trainer_backend.training.kernels.attention import PER_DOCUMENT, document_layout
from trainer_backend.training.kernels.front import front_of
from trainer_backend.training.loss import LossSpec, head_loss, logits_loss, shift_and_select
from trainer_backend.training.sft_config import SFTConfig

logger = logging.getLogger(__name__)
_LENGTHS = (9, 12, 7)  # tokens of the packed documents that are tried
_REFUSALS = (
    RuntimeError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    NotImplementedError,
)


@dataclass(frozen=True)
class ModelTraits:
    """What probe_model() found."""

    packs: bool  # attention keeps packed documents apart
    spec: LossSpec | None  # of the fused loss; None: the loss needs the model's own logits
    why_not: str = ""  # the reason when packs is False
    takes_mask: bool = False  # a joined row may come with a mask of ones, which changes nothing


def causal_lm(model: AnyModel) -> PreTrainedModel:
    """The model without the adapter's wrapper."""
    return cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model


def has_virtual_tokens(model: AnyModel) -> bool:
    """Whether an adapter puts tokens of its own before every row (prompt or prefix tuning)."""
    return isinstance(model, PeftModel) and bool(model.active_peft_config.is_prompt_learning)


def asked_loss(args: SFTConfig) -> LossSpec:
    """The loss of the settings; label smoothing applies to "nll" only."""
    smoothing = args.label_smoothing_factor if args.loss_type == "nll" else 0.0
    return LossSpec(args.loss_type, smoothing)


def router_weight(model: PreTrainedModel, args: SFTConfig) -> float:
    """Weight of the load-balancing loss: as set, else the model's own, else 0."""
    own = getattr(model.config.get_text_config(), "router_aux_loss_coef", 0.0)
    return own if args.router_aux_loss_coef is None else args.router_aux_loss_coef


def examine(model: AnyModel, args: SFTConfig) -> ModelTraits:
    """Probe the model; packing is switched off in `args`, with a warning, where it cannot pack.

    It is moved first to the device that trains, as the Trainer would do later: kernels of another
    device would tell nothing.
    """
    if goes_ahead(model, args, args.device.type):
        cast(torch.nn.Module, model).to(args.device)
    traits = probe_model(causal_lm(model), asked_loss(args))
    if has_virtual_tokens(model):
        traits = replace(traits, packs=False, why_not="virtual tokens precede every row")
    if not traits.packs:
        logger.warning(
            "Batches are padded instead of packed, with rows of similar length together: %s.",
            traits.why_not,
        )
        if args.packing:
            logger.warning("packing is switched off for the same reason.")
            args.packing = args.eval_packing = False
    return traits


def goes_ahead(model: AnyModel, args: SFTConfig, device: str) -> bool:
    """Whether the Trainer would move this model as a whole to a device (cuda, mps, cpu …).

    Not where it is sharded, spread over devices, placed by bitsandbytes, or moved only once it is
    evaluated in half precision.
    """
    wanted = args.place_model_on_device
    if device == "cpu" or wanted is False or is_quantised(causal_lm(model)):
        return False
    by_environment = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    shared = args.fsdp or args.deepspeed or any(name in os.environ for name in by_environment)
    placed = getattr(causal_lm(model), "hf_device_map", None) is not None
    return not (shared or placed or args.bf16_full_eval or args.fp16_full_eval)


def probe_model(model: PreTrainedModel, spec: LossSpec) -> ModelTraits:
    """Try packing and the fused loss on 28 tokens; where packing works, attention is switched.

    The first layers of every kind are tried; what they refuse is asked of the whole model again. A
    model whose weights are spread over devices is not probed.
    """
    if _is_sharded(model):
        return ModelTraits(False, None, "its weights are spread over devices")
    with _quiet(model):
        front = front_of(model)
        fused = _agreeing(front, spec) if front is not None else None
        fused = fused or _agreeing(model, spec)
        packs = _switch_attention(model, front)
        takes_mask = (
            packs
            and waits_without_mask(input_embedding(model).device)
            and (takes_whole_mask(model if front is None else front))
        )
    why = "" if packs else f"{type(model).__name__} cannot keep packed examples apart"
    return ModelTraits(packs, fused, why, takes_mask)


def waits_without_mask(device: torch.device) -> bool:
    """Whether transformers' look for packed rows, which a mask saves, waits for this device."""
    return device.type != "cpu"


def takes_whole_mask(model: PreTrainedModel) -> bool:
    """Whether a mask of ones leaves the logits of packed documents equal to the bit.

    Without a mask transformers asks the device in every forward pass whether the positions restart,
    and so waits for all that it still has to compute.
    """
    ids = _ids(model)
    positions = torch.cat([torch.arange(n, device=ids.device) for n in _LENGTHS])[None]
    try:
        with document_layout(_LENGTHS):
            without = _logits(model, ids, position_ids=positions)
            masked = _logits(model, ids, position_ids=positions, attention_mask=whole_mask(ids))
    except _REFUSALS:
        return False
    return torch.equal(without, masked)


def whole_mask(ids: torch.Tensor) -> torch.Tensor:
    """A mask [batch, tokens] of ones for these ids: nothing is padding."""
    return torch.ones_like(ids)


def settle_unused(model: AnyModel, args: SFTConfig) -> None:
    """Keep DDP from searching for unused weights in every step, where none can be unused."""
    several = args.world_size > 1 and args.ddp_find_unused_parameters is None
    if several and not args.fsdp and every_weight_learns(model):
        args.ddp_find_unused_parameters = False


def every_weight_learns(model: AnyModel) -> bool:
    """Whether any text gives every trained weight a gradient, by one backward pass.

    False for mixtures of experts and sharded models. No gradient is kept.
    """
    config = causal_lm(model).config.get_text_config()
    if _is_sharded(model) or any("expert" in name for name in config.to_dict()):
        return False
    learning = [one for one in model.parameters() if one.requires_grad]
    with _quiet(model), torch.enable_grad():
        try:
            model(input_ids=_ids(model), use_cache=False).logits.float().mean().backward()
        except _REFUSALS:
            return False
        finally:
            reached = all(one.grad is not None for one in learning)
            model.zero_grad()
    return reached


def _is_sharded(model: torch.nn.Module) -> bool:
    devices = set((getattr(model, "hf_device_map", None) or {}).values())
    return len(devices) > 1 or any(hasattr(p, "ds_id") or p.is_meta for p in model.parameters())


@contextmanager
def _quiet(model: torch.nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    with torch.no_grad():
        yield
    model.train(was_training)


def _ids(model: AnyModel) -> torch.Tensor:
    embedding = input_embedding(model)
    vocabulary, count = len(embedding), sum(_LENGTHS)
    ids = [5 % vocabulary + (i * 37) % max(1, vocabulary // 2) for i in range(count)]
    return torch.tensor([ids], device=embedding.device) % vocabulary


def _specs(model: PreTrainedModel, spec: LossSpec) -> list[LossSpec]:
    """The ways to read the config's logit settings; the right one gives the model's own loss."""
    config = model.config.get_text_config()
    softcap = getattr(config, "final_logit_softcapping", None)
    scale, divisor = getattr(config, "logit_scale", None), getattr(config, "logits_scaling", None)
    scales = [1.0, scale, 1 / divisor if divisor else None, divisor]
    return [
        replace(spec, logit_scale=s, softcap=softcap)
        for s in dict.fromkeys(scales)
        if s is not None
    ]


def _agreeing(model: PreTrainedModel, spec: LossSpec) -> LossSpec | None:
    return next((s for s in _specs(model, spec) if _fused_agrees(model, s)), None)


def _fused_agrees(model: PreTrainedModel, spec: LossSpec) -> bool:
    ids = _ids(model)
    try:
        logits = type(model).forward(model, input_ids=ids, use_cache=False).logits
        hidden = model.base_model(input_ids=ids, use_cache=False)[0]
        fused = head_loss(model, hidden, ids, spec)
    except _REFUSALS:
        return False
    states, targets = shift_and_select(logits, ids)
    plain = logits_loss(states, targets, spec)
    close = 1e-4 if logits.dtype == torch.float32 else 2e-2
    return bool((fused.loss - plain.loss).abs() <= close * plain.loss.abs().clamp(min=1e-6))


def _switch_attention(model: PreTrainedModel, front: PreTrainedModel | None) -> bool:
    before, config = model.config._attn_implementation, model.config.get_text_config()
    softcapped = getattr(config, "attn_logit_softcapping", None) is not None
    # ALiBi counts from the start of the row, and its bf16 bias is exact for 256 tokens only: a
    # probe of 28 tokens would pass and longer rows be wrong
    if getattr(config, "alibi", False):
        return False
    if before == "sdpa" or (before == "eager" and softcapped):
        model.set_attn_implementation(PER_DOCUMENT)
    elif before != PER_DOCUMENT and not str(before).startswith("flash_attention"):
        return False
    packs = (front is not None and _keeps_apart(front)) or _keeps_apart(model)
    if not packs and before != PER_DOCUMENT:
        model.set_attn_implementation(before)
    return packs


def _keeps_apart(model: PreTrainedModel) -> bool:
    """Compare the logits of documents packed, alone, and joined without borders."""
    ids = _ids(model)
    positions = torch.cat([torch.arange(n, device=ids.device) for n in _LENGTHS])[None]
    try:
        alone = torch.cat([_logits(model, part) for part in ids.split(_LENGTHS, dim=1)], dim=1)
        with document_layout(_LENGTHS):
            packed = _logits(model, ids, position_ids=positions)
        mixed = _logits(model, ids)
    except _REFUSALS:
        return False
    error, leak = ((other - alone).abs().max().item() for other in (packed, mixed))
    exact = alone.dtype == torch.float32 and not getattr(model, "is_quantized", False)
    noise = 1e-4 if exact else 0.1
    return error <= noise * max(leak, 1e-3 * alone.abs().max().item())


def _logits(model: PreTrainedModel, ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    return type(model).forward(model, input_ids=ids, use_cache=False, **kwargs).logits
