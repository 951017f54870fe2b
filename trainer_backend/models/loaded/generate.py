"""Generates answers with a loaded model, streamed or in batches. No prompt is built here."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import DynamicCache, GenerationConfig, GenerationMixin, ProcessorMixin
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from trainer_backend.models.loaded.pretrained import AnyModel, input_embedding
from trainer_backend.tokens.stopping import closing_tokens, ending_of, stop_ids


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: greedily at temperature 0, else sampled from the nucleus."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    seed: int = 0

    def warpers(self) -> LogitsProcessorList:
        """Temperature, then nucleus sampling: the fewest tokens with probability `top_p` together.

        From "The Curious Case of Neural Text Degeneration" (arXiv 1904.09751).
        """
        found = LogitsProcessorList()
        if self.temperature > 0:
            found.append(TemperatureLogitsWarper(float(self.temperature)))
            if self.top_p < 1.0:
                found.append(TopPLogitsWarper(float(self.top_p)))
        return found


def stop_tokens(model: AnyModel, tokenizer: Tokenizer) -> set[int]:
    """Ids that end an answer: those of the chat template, the tokenizer and the model."""
    return {*_listed(model.generation_config), *stop_ids(tokenizer)}


def keep_stops(model: AnyModel, tokenizer: Tokenizer) -> None:
    """Add what ends an answer to the model's generation settings, which are saved with it."""
    settings = getattr(model, "generation_config", None)
    if settings is not None:
        settings.eos_token_id = with_stops(settings, tokenizer)


def with_stops(settings: GenerationConfig, tokenizer: Tokenizer) -> int | list[int] | None:
    """The `eos_token_id` of generation settings with the ends of this tokenizer, those first."""
    own = [*closing_tokens(tokenizer), *sorted(stop_ids(tokenizer))]
    found = list(dict.fromkeys([*own, *_listed(settings)]))
    return found[0] if len(found) == 1 else found or None


def _listed(settings: GenerationConfig) -> list[int]:
    found = settings.eos_token_id
    return [] if found is None else found if isinstance(found, list) else [found]


def cut_at_marks(text: str, tokenizer: Tokenizer) -> str:
    """An answer up to the first mark that ends answers of this template without being a token."""
    ends = [text.find(mark) for mark in ending_of(tokenizer).texts if mark in text]
    return text[: min(ends)] if ends else text


@torch.inference_mode()
def stream_tokens(
    model: AnyModel,
    prompt_ids: list[int],
    stops: set[int],
    sampling: Sampling,
    switched: Callable[[], AbstractContextManager],
) -> Iterator[int]:
    """Yield new token ids until one of `stops` (not yielded) or `sampling.max_new_tokens`.

    `switched()` is entered around each forward pass only, so that two streams of one model (adapter
    on and off) can alternate. Each stream has its own key/value cache.
    """
    device = input_embedding(model).device
    cache, warpers = DynamicCache(config=model.config), sampling.warpers()
    source = torch.Generator(device=device).manual_seed(sampling.seed)
    ids = torch.tensor([prompt_ids], device=device)
    seen = ids
    for _ in range(sampling.max_new_tokens):
        with switched():
            out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        scores = warpers(cast(torch.LongTensor, seen), out.logits[:, -1].float())
        if sampling.temperature > 0:
            ids = torch.multinomial(scores.softmax(-1), 1, generator=source)
        else:
            ids = scores.argmax(-1, keepdim=True)
        token = int(ids)
        if token in stops:
            return
        seen = torch.cat([seen, ids], dim=1)
        yield token


@torch.inference_mode()
def answer_seen(
    model: AnyModel, processor: ProcessorMixin, prompt: str, images: list[Any], max_new_tokens: int
) -> str:
    """The greedy answer to one prompt with images, without special tokens."""
    inputs = processor(text=[prompt], images=[images], add_special_tokens=False)
    inputs = inputs.convert_to_tensors("pt").to(input_embedding(model).device)
    out = cast(GenerationMixin, model).generate(
        **inputs,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=processor.tokenizer.pad_token_id,
        eos_token_id=sorted(stop_tokens(model, processor.tokenizer)),
    )
    written = out[0, inputs["input_ids"].shape[1] :]
    text = processor.tokenizer.decode(written, skip_special_tokens=True)
    return cut_at_marks(text, processor.tokenizer)


@torch.inference_mode()
def answer_batch(
    model: AnyModel, tokenizer: Tokenizer, prompts: list[list[int]], max_new_tokens: int
) -> list[str]:
    """Greedy answers to several prompts (token ids) in one left-padded batch.

    Without special tokens.
    """
    pad = tokenizer.pad_token_id
    width = max(len(prompt) for prompt in prompts)
    device = input_embedding(model).device
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    out = cast(GenerationMixin, model).generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=pad,
        eos_token_id=sorted(stop_tokens(model, tokenizer)),
    )
    texts = tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
    return [cut_at_marks(text, tokenizer) for text in texts]
