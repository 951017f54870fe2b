"""Adapters before training: adding one, continuing one, which weights learn in which format."""

import logging
import re

import bitsandbytes
import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model

from trainer_backend.recipe import Recipe
from trainer_backend.training.kernels.lora import quicken_lora
from trainer_backend.training.precision import halve_frozen, is_large

logger = logging.getLogger(__name__)


def lora_config(recipe: Recipe) -> LoraConfig | None:
    """The adapter a recipe asks for; None for full training."""
    if recipe.adapter == "full":
        return None
    targets = recipe.lora_target_modules
    return LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=targets
        if targets == "all-linear"
        else [t.strip() for t in targets.split(",")],
        task_type="CAUSAL_LM",
    )


def add_adapter(model, peft_config, added_tokens: list[int], args=None):
    """Wrap the model in a new adapter if configured; an adapted model is trained as it is."""
    if peft_config is None:
        return model
    if not isinstance(peft_config, PeftConfig):
        raise TypeError(
            f"peft_config must be a PeftConfig (LoraConfig), not {type(peft_config).__name__}."
        )
    if isinstance(model, PeftModel):
        raise ValueError(
            "The model already has an adapter, and peft_config asks for another. Pass the adapted "
            "model alone to continue it, or merge it first."
        )
    if added_tokens:
        _train_new_tokens(peft_config, added_tokens)
    spare_vision(model, peft_config)
    plugin = getattr(args, "deepspeed_plugin", None)
    sharded = plugin is not None and plugin.zero_stage == 3 and not is_quantised(model)
    # sharded weights are gathered in one number format: the adapter keeps the base's
    return get_peft_model(model, peft_config, autocast_adapter_dtype=not sharded)


def spare_vision(model, peft_config) -> None:
    """Keep LoRA out of a vision tower whose layers only happen to have the names asked for.

    It is adapted when the configuration says so: names with a path in them, or exclude_modules.
    """
    names = getattr(peft_config, "target_modules", None)
    asked = not names or (names != "all-linear" and isinstance(names, str))
    asked = asked or (names != "all-linear" and any("." in name for name in names))
    if getattr(model.config, "vision_config", None) is None or not isinstance(
        peft_config, LoraConfig
    ):
        return
    if asked or peft_config.exclude_modules is not None:
        return
    words = model.get_decoder()
    place = next((name for name, module in model.named_modules() if module is words), "")
    if place:
        heads = "" if names == "all-linear" else "|lm_head"  # all-linear leaves the head out
        peft_config.exclude_modules = rf"(?!{re.escape(place)}\.{heads}).*"


def is_quantised(model) -> bool:
    """Tell whether the weights are stored in 4 or 8 bits by bitsandbytes."""
    return any(getattr(model, f"is_loaded_in_{bits}bit", False) for bits in (4, 8))


def _train_new_tokens(peft_config, added_tokens: list[int]) -> None:
    """New tokens need rows of their own, in the embedding and in the head."""
    known = getattr(peft_config, "trainable_token_indices", None)
    table = known if isinstance(known, dict) else {"embed_tokens": list(known or [])}
    table["embed_tokens"] = [*table.get("embed_tokens", []), *added_tokens]
    peft_config.trainable_token_indices = table
    saved = list(peft_config.modules_to_save or [])
    peft_config.modules_to_save = saved if "lm_head" in saved else [*saved, "lm_head"]


def _is_prefix(model) -> bool:
    return isinstance(model, PeftModel) and model.active_peft_config.peft_type == "PREFIX_TUNING"


def prepare_trainable(model, args) -> None:
    """Let gradients reach an adapter through checkpoints; match its format to a quantised base."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            "No weight of this model can learn: all are frozen. Load an adapter with "
            "is_trainable=True, or pass peft_config."
        )
    if _is_prefix(model) and args.gradient_checkpointing:
        logger.warning(
            "Gradient checkpointing is switched off: prefix tuning cannot be recomputed."
        )
        args.gradient_checkpointing = args.activation_checkpointing = False
    quantised = is_quantised(model)
    if isinstance(model, PeftModel):
        _let_gradients_in(model, args)
        quicken_lora(model)
        if args.bf16 and not quantised and is_large(model):
            halve_frozen(model)
    if quantised:
        _keep_differentiable(model)
    if quantised and not args.fp16:  # a gradient scaler takes no bf16
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "magnitude_vector" not in name:
                parameter.data = parameter.data.to(torch.bfloat16)


def _let_gradients_in(model, args) -> None:
    if not args.gradient_checkpointing:
        return
    model.enable_input_require_grads()
    plugin = getattr(args, "deepspeed_plugin", None)
    if plugin is not None and plugin.zero_stage == 3:  # only the older way gathers weights again
        args.gradient_checkpointing_kwargs = {
            **(args.gradient_checkpointing_kwargs or {}),
            "use_reentrant": True,
        }


def _keep_differentiable(model) -> None:
    """Stop 4-bit layers from repacking themselves on a CPU when they are evaluated.

    The packed form has no gradient: training after one evaluation would silently go wrong.
    """
    for module in model.modules():
        if not hasattr(module, "support_avx512bf16_for_cpu"):
            continue
        module.support_avx512bf16_for_cpu = False
        weight = module.weight
        if getattr(weight.quant_state, "packing_format_for_cpu", False):
            unpack = bitsandbytes.nn.modules._convert_weight_packed_for_cpu_inverse
            weight.data, weight.quant_state = unpack(weight.data, weight.quant_state)
            module.quant_state = weight.quant_state
