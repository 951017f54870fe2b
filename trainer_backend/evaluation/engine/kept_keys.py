"""The keys and values of many rows, in buffers that hold a whole answer.

Which model can use them is found out elsewhere.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer


class RoomyLayer(DynamicLayer):
    """Keys and values in a buffer with room for the whole answer: a token is written, not joined.

    It keeps what a sliding window no longer sees; the model's mask leaves that out.
    """

    def __init__(self, room: int):
        super().__init__()
        self.room, self.length = room, 0
        self._whole: tuple[Tensor, Tensor] | None = None  # [rows, heads, room, width]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write tokens behind those that are there; returns all, [rows, heads, tokens, width]."""
        if self._whole is None:
            self.lazy_initialization(key_states, value_states)
            self._whole = self._empty(key_states), self._empty(value_states)
        end = self.length + key_states.shape[-2]
        for whole, states in zip(self._whole, (key_states, value_states), strict=True):
            whole[:, :, self.length : end] = states
        self.length = end
        return self._show()

    def _empty(self, states: Tensor) -> Tensor:
        rows, heads, _, width = states.shape
        return states.new_zeros(rows, heads, self.room, width)

    def _show(self) -> tuple[Tensor, Tensor]:
        assert self._whole is not None
        self.keys, self.values = (whole[:, :, : self.length] for whole in self._whole)
        return self.keys, self.values

    def share(self, gaps: Tensor) -> None:
        """Give the one row that is there to many: its beginning, behind gaps (int64 [rows]).

        All rows end where the one did.
        """
        if self._whole is None:
            return
        kept, end = self._whole, self.length
        keys, values = (one.new_zeros(len(gaps), *one.shape[1:]) for one in kept)
        for gap in gaps.clamp(max=end).unique().tolist():
            rows = gaps == gap
            for whole, one in zip((keys, values), kept, strict=True):
                whole[rows, :, gap:end] = one[:, :, : end - gap]
        self._whole = keys, values
        self._show()

    def take(self, rows: Tensor) -> None:
        """Keep these rows, in this order."""
        if self._whole is not None:
            keys, values = self._whole
            self._whole = keys[rows], values[rows]
            self._show()


class KeptKeys(Cache):
    """A cache of RoomyLayers, one for each layer of a model."""

    def __init__(self, layers: int, room: int):
        super().__init__(layers=[RoomyLayer(room) for _ in range(layers)])

    def share(self, gaps: Tensor) -> None:
        """Give one row to many, in all layers; see RoomyLayer."""
        for layer in self.layers:
            assert isinstance(layer, RoomyLayer)
            layer.share(gaps)

    def take(self, rows: Tensor) -> None:
        """Keep these rows in all layers; see RoomyLayer."""
        for layer in self.layers:
            assert isinstance(layer, RoomyLayer)
            layer.take(rows)


def layers_that_keep(model: PreTrainedModel) -> int:
    """The number of layers, if each keeps keys and values and nothing else; 0 for other models."""
    try:
        layers = DynamicCache(config=model.config).layers
    except (AttributeError, KeyError, TypeError, ValueError):
        return 0
    plain = {DynamicLayer, DynamicSlidingWindowLayer}
    return len(layers) if all(type(one) in plain for one in layers) else 0


def row_bytes(model: PreTrainedModel, tokens: int) -> int:
    """Bytes of the keys and values of one row of so many tokens."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    wide = torch.finfo(model.dtype).bits // 8
    return 2 * config.num_hidden_layers * heads * width * tokens * wide
