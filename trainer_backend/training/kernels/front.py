"""The front of a model: the same model with only its first layers, for probes that are quick.

Weights and modules are shared, nothing is copied, and the model itself is left as it is.
"""

import copy
from typing import Any, TypeVar, cast

import torch
from transformers import PreTrainedModel

_LEAST = 2  # layers: what differs between neighbours shows
_OWN = ("layer_idx", "layer_id", "layer_number", "training")  # differ in layers of one kind
_SCALAR = (bool, int, float, str, type(None))
_M = TypeVar("_M", bound=torch.nn.Module)


def front_of(model: PreTrainedModel) -> PreTrainedModel | None:
    """A view of the model that ends after its first layers of every kind; None: none is surely so.

    The view has the model's own modules, configs, head and last norm, and shares all weights. There
    is none where layers use what others computed (shared keys and values), where the layers cannot
    be told from other lists, where outputs of layers are recorded, or where no layer is spared.
    """
    config = model.config.get_text_config()
    settings = {**model.config.to_dict(), **config.to_dict()}
    count = getattr(config, "num_hidden_layers", 0)  # by any of its names
    shared = settings.get("num_kv_shared_layers") or settings.get("cross_attention_layers")
    recorded = any(value is True for name, value in settings.items() if name.startswith("output_"))
    lists = [
        (name, one)
        for name, one in model.named_modules()
        if isinstance(one, torch.nn.ModuleList) and len(one) == count
    ]
    if shared or recorded or len(lists) != 1:
        return None
    place, layers = lists[0]
    kept = layers_of_every_kind(layers, settings)
    return None if kept >= count else _ending_after(model, place.split("."), kept)


def layers_of_every_kind(layers: torch.nn.ModuleList, settings: dict[str, Any]) -> int:
    """How many of the first layers hold every kind of layer; at least two.

    A kind is what the lists of the config say of a layer (`settings`, by name), the classes and
    numbers in its modules, and the sizes and formats of its weights.
    """
    lists = [v for v in settings.values() if isinstance(v, list) and len(v) == len(layers)]
    known: set[Any] = set()
    last = 0
    for at, layer in enumerate(layers):
        kind = (repr([one[at] for one in lists]), _kind(layer))
        if kind not in known:
            known.add(kind)
            last = at
    return max(_LEAST, last + 1)


def _kind(layer: torch.nn.Module) -> tuple[Any, ...]:
    modules = [
        (name, type(one), "forward" in vars(one), _numbers(one))
        for name, one in layer.named_modules()
    ]
    weights = [*layer.named_parameters(), *layer.named_buffers()]
    formats = [(name, one.shape, one.dtype, one.device) for name, one in weights]
    return tuple(modules), tuple(formats)


def _numbers(module: torch.nn.Module) -> tuple[tuple[str, Any], ...]:
    """What a module holds in plain numbers and words, but for its own place."""
    own = vars(module).items()
    return tuple((k, v) for k, v in own if isinstance(v, _SCALAR) and k not in _OWN)


def _ending_after(model: PreTrainedModel, path: list[str], count: int) -> PreTrainedModel:
    """The view: a shallow copy of each module on the way to the list, with a shorter list."""
    view: torch.nn.Module = _shallow(model)
    outer = view
    for name in path[:-1]:
        inner = _shallow(cast(torch.nn.Module, outer._modules[name]))
        outer._modules[name] = inner
        outer = inner
    layers = cast(torch.nn.ModuleList, outer._modules[path[-1]])
    outer._modules[path[-1]] = torch.nn.ModuleList(list(layers)[:count])
    return cast(PreTrainedModel, view)


def _shallow(module: _M) -> _M:
    """The same module in an object of its own; only its table of modules is a copy."""
    same = copy.copy(module)
    same._modules = dict(module._modules)
    return same
