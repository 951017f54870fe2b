"""Greedy answers to many prompts at once: those of one prompt at a time, several times as fast.

What all prompts begin with is computed once, rows that have ended leave the batch, and nothing is
copied to grow. A model that does not answer the same in this way is asked by its own generate().
Which prompts are asked is not decided here.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from itertools import takewhile
from typing import Any, cast
from weakref import WeakKeyDictionary

import psutil
import torch
from torch import Tensor
from transformers import GenerationMixin, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from trainer_backend.errors import is_out_of_memory
from trainer_backend.evaluation.engine.kept_keys import KeptKeys, layers_that_keep, row_bytes
from trainer_backend.evaluation.engine.losses import evaluated
from trainer_backend.evaluation.limits import KEYS_SHARE, ROWS_AT_ONCE
from trainer_backend.models.loaded.generate import ended_at_mark, stop_tokens
from trainer_backend.models.loaded.pretrained import AnyModel, input_embedding
from trainer_backend.tokens.stopping import ending_of
from trainer_backend.training.capabilities import causal_lm, has_virtual_tokens

CLOSE = {torch.float32: 1e-3}  # of the logits' spread, by number format
CLOSE_IN_HALF = 0.1
MARK_EVERY = 8  # tokens between two looks for an end that is plain text
_REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError,
             NotImplementedError)  # fmt: skip


_agreeing: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()  # found out by trying


@dataclass(frozen=True)
class Written:
    """One answer: its ids without what ended it; `cut`: the limit of tokens ended it."""

    ids: list[int]
    cut: bool = False


@dataclass
class Batch:
    """Rows that are answered together. Tensors are [rows, tokens], on the model's device."""

    cache: KeptKeys
    rows: list[int]  # of the prompts
    mask: Tensor  # int64: 1 where a row has a token, for the whole room
    positions: Tensor
    seen: int  # columns that the model has read
    waiting: Tensor  # the ids it reads next

    def keep(self, at: list[int]) -> None:
        """Go on with these rows alone."""
        if len(at) == len(self.rows):
            return
        chosen = torch.tensor(at, dtype=torch.long, device=self.mask.device)
        if at:
            self.cache.take(chosen)
        self.mask, self.positions = self.mask[chosen], self.positions[chosen]
        self.waiting = self.waiting[chosen]
        self.rows = [self.rows[one] for one in at]


def write_answers(
    model: AnyModel,
    tokenizer: Tokenizer,
    prompts: Sequence[list[int]],
    limits: Sequence[int],
    done: Callable[[int], None] = lambda answers: None,
    at_once: int = ROWS_AT_ONCE,
) -> list[Written]:
    """The greedy answers to prompts (token ids), each of at most its own limit of tokens.

    `done` is called after every token with the number of answers that have ended; what it raises
    ends the work. Without memory for `at_once` rows, half as many are answered at a time.
    Raises RuntimeError or MemoryError when there is none for a single row.
    """
    found: dict[int, Written] = {}
    if not prompts:
        return []
    with torch.no_grad(), evaluated(model), _whole_states(model):
        writer = Writer(model, tokenizer, prompts, limits, lambda more: done(len(found) + more))
        waiting = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
        at_once = min(at_once, writer.fitting())
        while waiting:
            part = waiting[:at_once]
            try:
                found |= writer.answer(part)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or at_once == 1:
                    raise
                at_once = max(1, min(at_once, len(part)) // 2)
            else:
                waiting = waiting[len(part) :]
                continue
            _free()
    return [found[at] for at in range(len(prompts))]


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _whole_states(model: AnyModel) -> Iterator[None]:
    """Give the head states without gaps between the rows.

    Of others, which are the last of a longer text, a CPU copies the whole head for every row.
    """
    head = model.get_output_embeddings()
    if head is None:
        yield
        return
    hook = head.register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))
    try:
        yield
    finally:
        hook.remove()


class Writer:
    """Answers some of the prompts at a time, with the model as it is."""

    def __init__(
        self,
        model: AnyModel,
        tokenizer: Tokenizer,
        prompts: Sequence[list[int]],
        limits: Sequence[int],
        done: Callable[[int], None],
    ):
        self.model, self.tokenizer, self.prompts, self.limits = model, tokenizer, prompts, limits
        self.done, self.plain = done, causal_lm(model)
        self.device = input_embedding(model).device
        self.stops = stop_tokens(model, tokenizer)
        self.marks = ending_of(tokenizer).texts
        self.layers = 0 if has_virtual_tokens(model) else layers_that_keep(self.plain)
        taken = signature(type(self.plain).forward).parameters
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in taken else {}
        if self.plain not in _agreeing:
            _agreeing[self.plain] = self.layers > 0 and self._agrees()
        self.together = _agreeing[self.plain]

    def fitting(self) -> int:
        """How many of the longest rows fit into the memory that may be taken."""
        if not self.together:
            return ROWS_AT_ONCE
        most = max(len(p) + n for p, n in zip(self.prompts, self.limits, strict=True))
        free = psutil.virtual_memory().available
        if self.device.type == "cuda":
            held = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated()
            free = torch.cuda.mem_get_info(self.device)[0] + held
        return max(1, int(KEYS_SHARE * free // max(1, row_bytes(self.plain, most))))

    def answer(self, rows: list[int]) -> dict[int, Written]:
        """The answers to these prompts, by their places."""
        return self._together(rows) if self.together else self._by_generate(rows)

    # One token for all rows at a time

    def _together(self, rows: list[int]) -> dict[int, Written]:
        batch = self._begin([self.prompts[at] for at in rows], [self.limits[at] for at in rows])
        written: list[list[int]] = [[] for _ in rows]
        ended: dict[int, bool] = {}  # whether the answer was cut
        while batch.rows:
            tokens = self._next(batch)
            going = []
            for place, (row, token) in enumerate(zip(batch.rows, tokens.tolist(), strict=True)):
                cut = self._takes(written[row], token, self.limits[rows[row]])
                if cut is None:
                    going.append(place)
                else:
                    ended[row] = cut
            batch.waiting = tokens[:, None]
            batch.keep(going)
            self.done(len(ended))
        return {at: self._whole(written[row], ended[row]) for row, at in enumerate(rows)}

    def _takes(self, written: list[int], token: int, limit: int) -> bool | None:
        """Note the next token of a row. None: it goes on; else whether its answer is cut."""
        if limit <= 0 or token in self.stops:
            return limit <= 0
        written.append(token)
        if self.marks and len(written) % MARK_EVERY == 0:
            if ended_at_mark(str(self.tokenizer.decode(written)), self.tokenizer)[1]:
                return False
        return True if len(written) >= limit else None

    def _whole(self, ids: list[int], cut: bool) -> Written:
        """The answer; one that has an end in plain text was not cut."""
        ended = self.marks and ended_at_mark(str(self.tokenizer.decode(ids)), self.tokenizer)[1]
        return Written(ids, cut and not ended)

    def _begin(self, prompts: list[list[int]], limits: list[int]) -> Batch:
        """Read what all prompts begin with, once; their last tokens wait.

        A shorter row begins at a later column and has no gap between its tokens, because sliding
        windows count columns: its last tokens include some that the longest row has in common.
        """
        shared = common_beginning(prompts)
        width, pad = max(map(len, prompts)) - shared, self.tokenizer.pad_token_id or 0
        room, onto = shared + width + max([*limits, 1]), self.device
        cache = KeptKeys(self.layers, room)
        gaps = torch.tensor([shared + width - len(one) for one in prompts], device=onto)
        if shared:
            self._read(torch.tensor([prompts[0][:shared]], device=onto), cache, {})
            cache.share(gaps)
        last = [one[-width:] for one in prompts]
        ids = [[pad] * (width - len(one)) + one for one in last]
        mask = (torch.arange(room, device=onto)[None] >= gaps[:, None]).long()
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        waiting = torch.tensor(ids, device=onto)
        return Batch(cache, [*range(len(prompts))], mask, positions, shared, waiting)

    def _next(self, batch: Batch) -> Tensor:
        """The likeliest next token of each row, int64 [rows]; the batch has read what waited."""
        begin, batch.seen = batch.seen, batch.seen + batch.waiting.shape[1]
        places = batch.positions[:, begin : batch.seen]
        given = {"attention_mask": batch.mask[:, : batch.seen], "position_ids": places}
        return self._read(batch.waiting, batch.cache, given)[:, -1].argmax(-1)

    def _read(self, ids: Tensor, cache: KeptKeys, given: dict[str, Any]) -> Tensor:
        out = self.model(
            input_ids=ids, past_key_values=cache, use_cache=True, **given, **self.last_only
        )
        return out.logits

    # Whether a model can be asked so

    def _agrees(self) -> bool:
        """Whether padded rows behind a kept beginning have the logits that each has alone."""
        ids = [(7 * at + 3) % len(input_embedding(self.model)) for at in range(11)]
        tries = [ids, ids[:4] + ids[6:9]]
        try:
            batch = self._begin(tries, [1, 1])
            batch.seen += batch.waiting.shape[1]
            begin = batch.seen - batch.waiting.shape[1]
            given = {
                "attention_mask": batch.mask[:, : batch.seen],
                "position_ids": batch.positions[:, begin : batch.seen],
            }
            together = self._read(batch.waiting, batch.cache, given)[:, -1].float()
            alone = [
                self.model(
                    input_ids=torch.tensor([one], device=self.device), use_cache=False
                ).logits[:, -1]
                for one in tries
            ]
        except _REFUSALS as error:
            if is_out_of_memory(error):
                raise
            return False
        expected = torch.cat(alone).float()
        off = (together - expected).norm() / (expected - expected.mean()).norm().clamp(min=1e-9)
        return float(off) <= CLOSE.get(self._format(), CLOSE_IN_HALF)

    def _format(self) -> torch.dtype:
        kind = self.device.type
        half = torch.is_autocast_enabled(kind) or self.plain.dtype != torch.float32
        return torch.bfloat16 if half else torch.float32

    # By the model's own generate()

    def _by_generate(self, rows: list[int]) -> dict[int, Written]:
        """Rows of one length at a time: nothing is padded."""
        found: dict[int, Written] = {}
        for length in sorted({len(self.prompts[at]) for at in rows}):
            same = [at for at in rows if len(self.prompts[at]) == length]
            ids = torch.tensor([self.prompts[at] for at in same], device=self.device)
            most = max(self.limits[at] for at in same)
            out = cast(GenerationMixin, self.model).generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max(1, most),
                do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=sorted(self.stops),
            )
            for at, one in zip(same, out[:, length:].tolist(), strict=True):
                found[at] = self._until_end(one, self.limits[at])
            self.done(len(found))
        return found

    def _until_end(self, ids: list[int], limit: int) -> Written:
        written = list(takewhile(lambda token: token not in self.stops, ids))
        return self._whole(written[:limit], len(written) >= limit)


def common_beginning(prompts: Sequence[list[int]]) -> int:
    """How many tokens all prompts begin with; at least one of each is left."""
    first, last = min(prompts), max(prompts)  # all others begin with what these two share
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return min(sum(1 for _ in same), *(len(one) - 1 for one in prompts))


def answer_text(written: Written, tokenizer: Tokenizer) -> str:
    """The text of an answer with its special tokens: a call may be written with such."""
    return ended_at_mark(str(tokenizer.decode(written.ids)), tokenizer)[0]
