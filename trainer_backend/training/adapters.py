"""Adapters before training: a new one, a loaded one, and the number formats of trained weights.

LoRA is arXiv 2106.09685, QLoRA (LoRA on a base in 4 bits) arXiv 2305.14314.
"""

import logging
import re
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from trainer_backend.models.loaded.pretrained import AnyModel, keep_unpacked
from trainer_backend.training.kernels.lora import QuickLora, quicken_lora
from trainer_backend.training.precision import halve_frozen, is_large
from trainer_backend.training.sft_config import SFTConfig

logger = logging.getLogger(__name__)
# weights that replace those of the base, whose activations they meet: in its number format
_WHOLE = ("modules_to_save", "trainable_tokens")


def add_adapter(
    model: AnyModel,
    peft_config: PeftConfig | None,
    added_tokens: list[int],
    args: SFTConfig | None = None,
) -> AnyModel:
    """Wrap the model in a new adapter; without a peft_config it is returned as it is.

    The embedding rows of `added_tokens` (ids) are trained too. Raises TypeError for another kind of
    peft_config, ValueError when the model has an adapter already.
    """
    if peft_config is None:
        return model
    if not isinstance(peft_config, PeftConfig):
        raise TypeError(
            f"peft_config must be a PeftConfig (LoraConfig), not {type(peft_config).__name__}."
        )
    if isinstance(model, PeftModel):
        raise ValueError(
            "The model already has an adapter, and peft_config asks for another. Omit peft_config "
            "to continue training it, or merge it first."
        )
    if added_tokens:
        _train_new_tokens(model, peft_config, added_tokens)
    spare_vision(model, peft_config)
    plugin = getattr(args, "deepspeed_plugin", None)
    sharded = plugin is not None and plugin.zero_stage == 3 and not is_quantised(model)
    # ZeRO-3 gathers weights in one number format: the adapter keeps that of the base
    return get_peft_model(model, peft_config, autocast_adapter_dtype=not sharded)


def spare_vision(model: PreTrainedModel, peft_config: PeftConfig) -> None:
    """Keep LoRA out of a vision tower whose layers share names with the language model's.

    Target modules given by path or regular expression, or exclude_modules, are left unchanged.
    """
    if getattr(model.config, "vision_config", None) is None or not isinstance(
        peft_config, LoraConfig
    ):
        return
    names = peft_config.target_modules or ""
    by_path = isinstance(names, str) or any("." in name for name in names)
    if (by_path and names != "all-linear") or peft_config.exclude_modules is not None:
        return
    decoder = model.get_decoder()
    place = next((name for name, module in model.named_modules() if module is decoder), "")
    if place:
        heads = "" if names == "all-linear" else "|lm_head"  # all-linear leaves the head out
        peft_config.exclude_modules = rf"(?!{re.escape(place)}\.{heads}).*"


def is_quantised(model: torch.nn.Module) -> bool:
    """Whether bitsandbytes stores the weights in 4 or 8 bits."""
    return any(getattr(model, f"is_loaded_in_{bits}bit", False) for bits in (4, 8))


def _train_new_tokens(model: PreTrainedModel, peft_config: Any, added_tokens: list[int]) -> None:
    """Train the new rows of the embedding, and the whole head; for the config of any tuner.

    A head that shares its weights with the embedding follows it, and is not trained for itself.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    name = _own_name(model, embedding)
    known = getattr(peft_config, "trainable_token_indices", None)
    table = dict(known) if isinstance(known, dict) else {name: list(known or [])}
    place = next((key for key in table if key.split(".")[-1] == name), name)
    table[place] = [*dict.fromkeys([*table.get(place, []), *added_tokens])]
    peft_config.trainable_token_indices = table
    if head is None or head.weight is embedding.weight:
        return
    saved, own = list(peft_config.modules_to_save or []), _own_name(model, head)
    peft_config.modules_to_save = saved if own in saved else [*saved, own]


def _own_name(model: torch.nn.Module, wanted: torch.nn.Module) -> str:
    """The last part of a module's name in its model: embed_tokens, wte, lm_head, embed_out …"""
    names = (name for name, module in model.named_modules() if module is wanted)
    return next(names).rpartition(".")[2]


def _is_prefix(model: torch.nn.Module) -> bool:
    return isinstance(model, PeftModel) and model.active_peft_config.peft_type == "PREFIX_TUNING"


def prepare_trainable(model: AnyModel, args: SFTConfig) -> QuickLora | None:
    """Let gradients reach an adapter through checkpointing, and choose the formats of weights.

    On a quantised base trained weights become bf16; under bf16 autocast frozen ones do; for fp16's
    gradient scaler trained ones become float32. Returns the quick layers of an adapter. Raises
    ValueError when every weight is frozen.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            "All weights of this model are frozen: there is nothing to train. Load an adapter with "
            "is_trainable=True, or pass peft_config."
        )
    if _is_prefix(model) and args.gradient_checkpointing:
        logger.warning(
            "Gradient checkpointing is switched off: it does not work with prefix tuning."
        )
        args.gradient_checkpointing = args.activation_checkpointing = False
    quantised, quick = is_quantised(model), None
    if isinstance(model, PeftModel):
        _let_gradients_in(model, args)
        quick = quicken_lora(model)
        if args.bf16 and not quantised and is_large(model):
            halve_frozen(model)
    if quantised:
        keep_unpacked(model)
    if args.fp16:
        _widen_trained(model)
    elif quantised:
        for name, parameter in model.named_parameters():
            whole = any(part in name for part in _WHOLE) and not args.bf16
            if parameter.requires_grad and "magnitude_vector" not in name and not whole:
                parameter.data = parameter.data.to(torch.bfloat16)
    return quick


def _widen_trained(model: AnyModel) -> None:
    """Trained weights in float32: a gradient scaler takes no gradients in half precision."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()


def _let_gradients_in(model: PeftModel, args: SFTConfig) -> None:
    if not args.gradient_checkpointing:
        return
    model.enable_input_require_grads()
    plugin = getattr(args, "deepspeed_plugin", None)
    if (
        plugin is not None and plugin.zero_stage == 3
    ):  # only reentrant checkpointing gathers weights again
        known = args.gradient_checkpointing_kwargs
        known = known if isinstance(known, dict) else {}
        args.gradient_checkpointing_kwargs = {**known, "use_reentrant": True}
