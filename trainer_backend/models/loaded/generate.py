"""Generates answers with a loaded model, streamed or in batches. No prompt is built here."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import takewhile
from queue import Queue
from typing import Any, cast

import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    GenerationMixin,
    ProcessorMixin,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.streamers import BaseStreamer

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


def ended_at_mark(text: str, tokenizer: Tokenizer) -> tuple[str, bool]:
    """An answer up to the first mark that ends answers without being a token; whether it had one.

    Only templates whose turns end with plain text have such marks.
    """
    ends = [text.find(mark) for mark in ending_of(tokenizer).texts if mark in text]
    return (text[: min(ends)], True) if ends else (text, False)


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


def stream_seen(
    model: AnyModel, inputs: dict[str, torch.Tensor], stops: set[int], sampling: Sampling
) -> Iterator[int]:
    """As stream_tokens(), for a prompt with pictures: the inputs of a processor.

    The model's own generate() runs in a thread, because every family moves its pictures into the
    first step in its own way. Closing the iterator stops it.
    """
    written: Queue[int | None] = Queue()
    closed = threading.Event()

    def run() -> None:
        torch.manual_seed(sampling.seed)
        try:
            cast(GenerationMixin, model).generate(
                **inputs,
                **_chosen(sampling),
                max_new_tokens=sampling.max_new_tokens,
                eos_token_id=sorted(stops),
                streamer=_Written(written),
                stopping_criteria=StoppingCriteriaList([_Closed(closed)]),
            )
        finally:
            written.put(None)

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(run)
        try:
            while (token := written.get()) is not None and token not in stops:
                yield token
        finally:
            closed.set()
        done.result()  # raises what generate() has raised


def _chosen(sampling: Sampling) -> dict[str, Any]:
    """The arguments of generate() for this sampling."""
    if sampling.temperature <= 0:
        return {"do_sample": False}
    return {
        "do_sample": True,
        "temperature": float(sampling.temperature),
        "top_p": float(sampling.top_p),
        "top_k": 0,
    }


class _Written(BaseStreamer):
    """Queues the tokens that generate() writes, without those of the prompt."""

    def __init__(self, queue: Queue):
        self.queue, self.is_prompt = queue, True

    def put(self, value: torch.Tensor) -> None:
        if not self.is_prompt:
            for token in value.flatten().tolist():
                self.queue.put(token)
        self.is_prompt = False

    def end(self) -> None:
        """Nothing: the end is queued when generate() returns."""


class _Closed(StoppingCriteria):
    """Ends generate() once nobody reads its tokens."""

    def __init__(self, closed: threading.Event):
        self.closed = closed

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self.closed.is_set(), device=input_ids.device)


@torch.inference_mode()
def answer_seen(
    model: AnyModel, processor: ProcessorMixin, prompt: str, images: list[Any], max_new_tokens: int
) -> str:
    """The greedy answer to one prompt with images, as answer_batch() returns it."""
    inputs = seen_inputs(processor, prompt, images, model)
    return _answers(model, processor.tokenizer, inputs, max_new_tokens)[0]


def seen_inputs(
    processor: ProcessorMixin, prompt: str, images: list[Any], model: AnyModel
) -> dict[str, torch.Tensor]:
    """Token ids and pixels of one prompt with images, on the model's device."""
    inputs = processor(text=[prompt], images=[images], add_special_tokens=False)
    return dict(inputs.convert_to_tensors("pt").to(input_embedding(model).device))


@torch.inference_mode()
def answer_batch(
    model: AnyModel, tokenizer: Tokenizer, prompts: list[list[int]], max_new_tokens: int
) -> list[str]:
    """Greedy answers to several prompts (token ids) in one left-padded batch.

    Up to what ends them, other special tokens included: a call may be written with such.
    """
    pad = tokenizer.pad_token_id
    width = max(len(prompt) for prompt in prompts)
    device = input_embedding(model).device
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    return _answers(model, tokenizer, {"input_ids": ids, "attention_mask": mask}, max_new_tokens)


def _answers(
    model: AnyModel, tokenizer: Tokenizer, inputs: dict[str, torch.Tensor], most: int
) -> list[str]:
    stops = stop_tokens(model, tokenizer)
    out = cast(GenerationMixin, model).generate(
        **inputs,
        max_new_tokens=most,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=sorted(stops),
    )
    written = out[:, inputs["input_ids"].shape[1] :].tolist()
    answers = [list(takewhile(lambda token: token not in stops, ids)) for ids in written]
    return [ended_at_mark(str(tokenizer.decode(ids)), tokenizer)[0] for ids in answers]
