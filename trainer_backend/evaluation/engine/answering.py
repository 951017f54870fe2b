"""Greedy answers to many prompts at once, token for token those of one prompt at a time.

What all prompts begin with is computed once, rows that have ended leave the batch, and only the
last position of each row gets logits. Which prompts are asked is not decided here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationMixin
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.cache_utils import Cache, DynamicLayer

from trainer_backend.models.loaded.generate import stop_tokens
from trainer_backend.models.loaded.pretrained import AnyModel, input_embedding

FEWER = 0.75  # of the rows left: the others are taken out of the cache


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
        """Write the tokens behind those that are there; returns all of them."""
        if self._whole is None:
            self.lazy_initialization(key_states, value_states)
            self._whole = self._empty(key_states), self._empty(value_states)
        end = self.length + key_states.shape[-2]
        for whole, states in zip(self._whole, (key_states, value_states), strict=True):
            whole[:, :, self.length : end] = states
        self.length = end
        self._show()
        return self.keys, self.values

    def _empty(self, states: Tensor) -> Tensor:
        rows, heads, _, width = states.shape
        return states.new_zeros(rows, heads, self.room, width)

    def _show(self) -> None:
        assert self._whole is not None
        self.keys, self.values = (whole[:, :, : self.length] for whole in self._whole)

    def take(self, rows: Tensor) -> None:
        """Keep these rows, in this order; a row may be named several times."""
        if self._whole is not None:
            keys, values = self._whole
            self._whole = keys[rows], values[rows]
            self._show()


@dataclass(frozen=True)
class Written:
    """The ids of one answer without what ended it; `cut`: the limit of tokens ended it."""

    ids: list[int]
    cut: bool = False


@torch.inference_mode()
def write_answers(
    model: AnyModel, tokenizer: Tokenizer, prompts: Sequence[list[int]], limit: int
) -> list[Written]:
    stops = torch.tensor(sorted(stop_tokens(model, tokenizer)))
    shared = common_prefix(prompts)
    device = input_embedding(model).device
    rests = [p[shared:] for p in prompts]
    width = max(map(len, rests))
    pad = tokenizer.pad_token_id or 0
    cache = Cache(layers=[RoomyLayer(shared + width + limit) for _ in range(model.config.get_text_config().num_hidden_layers)])
    if shared:
        model(input_ids=torch.tensor([prompts[0][:shared]]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        for l in cache.layers: l.take(torch.zeros(len(prompts), dtype=torch.long))
    ids = torch.tensor([[pad]*(width-len(r))+r for r in rests])
    mask = torch.ones(len(prompts), shared+width+limit, dtype=torch.long)
    for at, r in enumerate(rests):
        mask[at, shared:shared+width-len(r)] = 0
    lengths = torch.tensor([len(p) for p in prompts])
    positions = (mask.cumsum(1)-1).clamp(min=0)
    out=[[] for _ in prompts]; rows=list(range(len(prompts))); cut=[True]*len(prompts)
    at = shared
    cur=ids
    seen=at+width
    first=True
    for _ in range(limit):
        pos = positions[:, seen-cur.shape[1]:seen]
        logits = model(input_ids=cur, attention_mask=mask[:, :seen], position_ids=pos, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        nxt = logits[:, -1].argmax(-1)
        ended = torch.isin(nxt, stops)
        keep=[]
        for i,(row,tk,e) in enumerate(zip(rows, nxt.tolist(), ended.tolist())):
            if e: cut[row]=False
            else:
                out[row].append(tk); keep.append(i)
        if not keep: break
        if len(keep)<len(rows):
            k=torch.tensor(keep)
            for l in cache.layers: l.take(k)
            mask=mask[k]; positions=positions[k]; nxt=nxt[k]; rows=[rows[i] for i in keep]
        cur=nxt[:,None]; seen+=1
    return [Written(o,c) for o,c in zip(out,cut)]

def common_prefix(prompts):
    n=min(map(len,prompts))-1
    a=prompts[0]
    k=0
    while k<n and all(p[k]==a[k] for p in prompts): k+=1
    return k
