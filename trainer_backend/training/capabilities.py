"""What this very model can do, found out by trying: pack documents, end in a fused loss.

A few tiny forward passes decide, so that an unknown architecture falls back instead of training
wrongly.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from peft import PeftModel

from trainer_backend.training.kernels.attention import PER_DOCUMENT, document_layout
from trainer_backend.training.loss import LossSpec, head_loss, logits_loss, shift_and_select

logger = logging.getLogger(__name__)
_LENGTHS = (9, 12, 7)
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
    """`spec` is None when the loss must be made from the model's own logits."""

    packs: bool
    spec: LossSpec | None
    why_not: str = ""


def causal_lm(model):
    """The language model itself, under an adapter or not."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def asked_loss(args) -> LossSpec:
    """The loss that the settings ask for; label smoothing belongs to the plain one."""
    smoothing = args.label_smoothing_factor if args.loss_type == "nll" else 0.0
    return LossSpec(args.loss_type, smoothing)


def router_weight(model, args) -> float:
    """What a mixture of experts' balancing loss counts: as asked, as configured, or not at all."""
    own = getattr(model.config.get_text_config(), "router_aux_loss_coef", 0.0)
    return own if args.router_aux_loss_coef is None else args.router_aux_loss_coef


def examine(model, args) -> ModelTraits:
    """Find out what the model can do, say so, and switch off what it cannot."""
    traits = probe_model(causal_lm(model), asked_loss(args))
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        traits = replace(traits, packs=False, why_not="virtual tokens stand before every row")
    if not traits.packs:
        logger.warning(
            "Batches are padded instead of joined, rows of similar length together: %s.",
            traits.why_not,
        )
        if args.packing:
            logger.warning("packing is switched off for the same reason.")
            args.packing = args.eval_packing = False
    return traits


def probe_model(model, spec: LossSpec) -> ModelTraits:
    """Try packing and the fused loss on a few tokens; if packing works attention is switched."""
    if _is_sharded(model):
        return ModelTraits(False, None, "its weights are spread over devices")
    with _quiet(model):
        fused = next((s for s in _specs(model, spec) if _fused_agrees(model, s)), None)
        packs = _switch_attention(model)
    why = "" if packs else f"{type(model).__name__} cannot keep packed examples apart"
    return ModelTraits(packs, fused, why)


def every_weight_learns(model) -> bool:
    """Whether any text gives all weights that learn a gradient; never sure of mixtures of experts.

    One backward pass over a few tokens, of which nothing stays.
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


def _is_sharded(model) -> bool:
    devices = set((getattr(model, "hf_device_map", None) or {}).values())
    return len(devices) > 1 or any(hasattr(p, "ds_id") or p.is_meta for p in model.parameters())


@contextmanager
def _quiet(model) -> Iterator[None]:
    was_training = model.training
    model.eval()
    with torch.no_grad():
        yield
    model.train(was_training)


def _ids(model) -> torch.Tensor:
    vocabulary = model.get_input_embeddings().weight.shape[0]
    count = sum(_LENGTHS)
    ids = [5 % vocabulary + (i * 37) % max(1, vocabulary // 2) for i in range(count)]
    return torch.tensor([ids], device=model.get_input_embeddings().weight.device) % vocabulary


def _specs(model, spec: LossSpec) -> list[LossSpec]:
    """What the config says about logits; the right reading gives the model's own loss."""
    config = model.config.get_text_config()
    softcap = getattr(config, "final_logit_softcapping", None)
    scale, divisor = getattr(config, "logit_scale", None), getattr(config, "logits_scaling", None)
    scales = [1.0, scale, 1 / divisor if divisor else None, divisor]
    return [
        replace(spec, logit_scale=s, softcap=softcap)
        for s in dict.fromkeys(scales)
        if s is not None
    ]


def _fused_agrees(model, spec: LossSpec) -> bool:
    ids = _ids(model)
    try:
        logits = type(model).forward(model, input_ids=ids, use_cache=False).logits
        hidden = model.base_model(input_ids=ids, use_cache=False)[0]
        fused = head_loss(model, hidden, ids, spec)
    except _REFUSALS:
        return False
    plain = logits_loss(*shift_and_select(logits, ids), spec)
    close = 1e-4 if logits.dtype == torch.float32 else 2e-2
    return bool((fused.loss - plain.loss).abs() <= close * plain.loss.abs().clamp(min=1e-6))


def _switch_attention(model) -> bool:
    before, config = model.config._attn_implementation, model.config.get_text_config()
    softcapped = getattr(config, "attn_logit_softcapping", None) is not None
    if getattr(config, "alibi", False):  # its bias counts from the row's start and is rounded to
        return False  # bf16: exact for the first 256 tokens, which are all that a probe would see
    if before == "sdpa" or (before == "eager" and softcapped):
        model.set_attn_implementation(PER_DOCUMENT)
    elif before != PER_DOCUMENT and not str(before).startswith("flash_attention"):
        return False
    packs = _keeps_apart(model)
    if not packs and before != PER_DOCUMENT:
        model.set_attn_implementation(before)
    return packs


def _keeps_apart(model) -> bool:
    """Compare documents packed, alone, and run together without borders."""
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


def _logits(model, ids, **kwargs) -> torch.Tensor:
    return type(model).forward(model, input_ids=ids, use_cache=False, **kwargs).logits
