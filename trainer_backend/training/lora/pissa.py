"""PiSSA (arXiv 2404.02948): an adapter that starts as the largest components of the weights.

While it trains, the base weights are what is left of them, W − s·B0·A0. Saved is a plain adapter of
twice the rank, [A; A0] and [B, −B0], which gives the same model on the unchanged base weights.
"""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from peft.tuners.lora.layer import LoraLayer
from peft.utils.save_and_load import load_peft_weights
from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS = "adapter_model.safetensors"
ADAPTER = "default"


def pissa_of(model: torch.nn.Module) -> "Pissa | None":
    """The first values of an adapter that is new; None if PiSSA did not start it."""
    config = model.peft_config.get(ADAPTER) if isinstance(model, PeftModel) else None
    start = config.init_lora_weights if isinstance(config, LoraConfig) else None
    starts = isinstance(start, str) and start.startswith("pissa")
    return Pissa(model) if starts and isinstance(model, PeftModel) else None


class Pissa:
    """The first values of a PiSSA adapter, with which it is saved and loaded.

    Make it when the adapter is new, before it has learned anything.
    """

    def __init__(self, model: PeftModel):
        self.model = model
        self.first = {
            path: (_matrix(layer, "A").detach().clone(), _matrix(layer, "B").detach().clone())
            for path, layer in self._layers()
        }

    def _layers(self) -> Iterator[tuple[str, LoraLayer]]:
        for path, module in self.model.named_modules():
            if isinstance(module, LoraLayer) and ADAPTER in module.lora_A:
                yield path, module

    def convert(self, folder: str | Path) -> None:
        """Rewrite an adapter that was saved from this model for the unchanged base weights."""
        file = Path(folder) / WEIGHTS
        tensors = load_file(file)
        for path, (a, b) in self.first.items():
            name = f"{path}.lora_A.weight"
            tensors[name] = torch.cat([tensors[name], a.to(tensors[name])])
            name = f"{path}.lora_B.weight"
            tensors[name] = torch.cat([tensors[name], -b.to(tensors[name])], dim=1)
        save_file(tensors, file, metadata={"format": "pt"})
        self._plain_config().save_pretrained(str(folder))

    def _plain_config(self) -> LoraConfig:
        """The settings of the saved adapter: twice the rank, and the same scale of its product."""
        config: Any = deepcopy(self.model.peft_config[ADAPTER])
        scale = 2**0.5 if config.use_rslora else 2
        config.lora_alpha = config.lora_alpha * scale
        config.r, config.init_lora_weights, config.inference_mode = 2 * config.r, True, True
        return config

    def load(self, folder: str | Path) -> None:
        """Go on with a saved adapter: its trained half, its first values and the base they leave.

        Raises ValueError if the folder holds an adapter of another rank.
        """
        saved = load_peft_weights(str(folder), device="cpu")
        for path, layer in self._layers():
            rank, key = layer.r[ADAPTER], path + ".lora_{}.weight"
            a, b = saved[key.format("A")], saved[key.format("B")]
            if len(a) != 2 * rank:
                raise ValueError(f"The adapter in {folder} was not saved by PiSSA of rank {rank}.")
            saved[key.format("A")], saved[key.format("B")] = a[:rank], b[:, :rank]
            self._begin_with(path, layer, a[rank:], -b[:, rank:])
        set_peft_model_state_dict(self.model, saved, ADAPTER)

    def _begin_with(self, path: str, layer: LoraLayer, a: Tensor, b: Tensor) -> None:
        """Put other first values in place of the model's own, as a resumed run may have."""
        own_a, own_b = self.first[path]
        a, b = a.to(own_a).contiguous(), b.to(own_b).contiguous()
        if torch.equal(a, own_a) and torch.equal(b, own_b):
            return
        _add(layer, own_b @ own_a - b @ a)
        self.first[path] = a, b


def _matrix(layer: LoraLayer, which: str) -> Tensor:
    return getattr(layer, f"lora_{which}")[ADAPTER].weight


@torch.no_grad()
def _add(layer: LoraLayer, product: Tensor) -> None:
    """Add s·product [out, in] to a layer's base weight, summed in float32."""
    weight = layer.get_base_layer().weight
    change = layer.scaling[ADAPTER] * product.float()
    change = change.t() if getattr(layer, "fan_in_fan_out", False) else change
    weight.data = (weight.data.float() + change).to(weight.dtype)
