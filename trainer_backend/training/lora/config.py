"""The LoRA settings of a recipe for one model (LoRA: arXiv 2106.09685, rsLoRA: 2312.03732).

DoRA is arXiv 2402.09353. Layers and modules are looked up in the model, so that a wrong name is
told with the right ones. The adapter itself is not made here.
"""

from collections.abc import Iterator
from typing import Any

import torch
from peft import LoraConfig
from transformers import PreTrainedModel

from trainer_backend.errors import UserError
from trainer_backend.recipe import Recipe, label
from trainer_backend.recipe.adapter_parts import check_layers, parse_layers, parse_names

FAST_SVD = "pissa_niter_16"  # the paper's quick form, as good as the whole SVD (arXiv 2404.02948)
MOST_NAMED = 20  # modules that an error lists


def lora_config(recipe: Recipe, model: PreTrainedModel) -> LoraConfig | None:
    """The LoRA settings of a recipe (also for QLoRA); None for full fine-tuning.

    `model` may be on the meta device. Raises UserError for layers or modules it does not have.
    """
    if recipe.adapter == "full":
        return None
    targets: Any = recipe.lora_target_modules
    targets = targets if targets == "all-linear" else parse_names(targets)
    start: Any = FAST_SVD if recipe.init_lora_weights == "pissa" else True
    settings: dict[str, Any] = {}
    if recipe.layers_to_transform.strip():
        targets, settings = _in_some_layers(recipe, model, targets)
    if recipe.modules_to_save.strip():
        settings |= _trained_whole(recipe, model)
    return LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=targets,
        use_rslora=recipe.use_rslora,
        use_dora=recipe.use_dora,
        init_lora_weights=start,
        task_type="CAUSAL_LM",
        **settings,
    )


def _in_some_layers(
    recipe: Recipe, model: PreTrainedModel, targets: str | list[str]
) -> tuple[list[str], dict[str, Any]]:
    """The names of the target modules, and the layers that peft looks for them in."""
    name, layers = _decoder_layers(model)
    check_layers(recipe, len(layers))
    chosen = parse_layers(recipe.layers_to_transform)
    if targets == "all-linear":
        paths = (path for layer in layers for path in _linear(layer))
        targets = list(dict.fromkeys(path.rpartition(".")[2] for path in paths))
    return list(targets), {"layers_to_transform": chosen, "layers_pattern": name}


def _decoder_layers(model: PreTrainedModel) -> tuple[str, torch.nn.ModuleList]:
    """The layers of the language model, and the name of their list: layers, h, blocks …"""
    decoder: torch.nn.Module = model.get_decoder()
    count = model.config.get_text_config().num_hidden_layers
    for path, module in decoder.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return path.rpartition(".")[2], module
    raise UserError(
        "The layers of this model are not found.",
        label("layers_to_transform"),
        "Leave the setting empty: every layer then has an adapter.",
    )


def _linear(module: torch.nn.Module) -> Iterator[str]:
    """Paths of the linear layers, quantised ones too."""
    for path, one in module.named_modules():
        if path and (isinstance(one, torch.nn.Linear) or type(one).__name__ == "Conv1D"):
            yield path


def _trained_whole(recipe: Recipe, model: PreTrainedModel) -> dict[str, Any]:
    """The modules that are trained whole; of tied embeddings both, as one."""
    names = parse_names(recipe.modules_to_save)
    known = _whole_modules(model)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(
            f"The model has no module “{unknown[0][:60]}” that can be trained whole.",
            f"{label('modules_to_save')} of {recipe.base_model}",
            f"It has {', '.join(known[:MOST_NAMED])}.",
        )
    tied = _tied(model)
    if not tied & set(names):
        return {"modules_to_save": [path for name in names for path in _paths(model, name, known)]}
    rest = [path for n in names if n not in tied for path in _paths(model, n, known)]
    embedding = _own_name(model, model.get_input_embeddings())
    return {"modules_to_save": [embedding, *rest], "ensure_weight_tying": True}


def _paths(model: PreTrainedModel, name: str, known: list[str]) -> list[str]:
    """What peft finds modules of this name alone by: it compares the ends of their paths."""
    if not any(one != name and one.endswith(name) for one in known):
        return [name]
    return [path for path, _ in model.named_modules() if path.rpartition(".")[2] == name]


def _whole_modules(model: PreTrainedModel) -> list[str]:
    """Names of modules with weights, embeddings and the head first, without what quantises."""
    found: dict[str, None] = {}
    for path, module in model.named_modules():
        own = [one for one in module.parameters(recurse=False) if one.is_floating_point()]
        if path and own:
            found[path.rpartition(".")[2]] = None
    first = [_own_name(model, model.get_input_embeddings()), _head_name(model)]
    return list(dict.fromkeys([name for name in first if name] + list(found)))


def _head_name(model: PreTrainedModel) -> str:
    head = model.get_output_embeddings()
    return "" if head is None else _own_name(model, head)


def _own_name(model: PreTrainedModel, wanted: torch.nn.Module) -> str:
    names = (name for name, module in model.named_modules() if module is wanted)
    return next(names, "").rpartition(".")[2]


def _tied(model: PreTrainedModel) -> set[str]:
    """Names of embedding and head where they share one weight."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    shared = head is not None and bool(model.config.get_text_config().tie_word_embeddings)
    return {_head_name(model), _own_name(model, embedding)} if shared else set()
