"""Writes answers token by token with a loaded model. Which model and which prompt is in chat.py."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from transformers import DynamicCache
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)


@dataclass(frozen=True)
class Sampling:
    """How the next token is picked. Temperature 0 takes the most likely one."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    seed: int = 0

    def warpers(self) -> LogitsProcessorList:
        """transformers' own temperature and nucleus sampling (arXiv 1904.09751)."""
        found = LogitsProcessorList()
        if self.temperature > 0:
            found.append(TemperatureLogitsWarper(float(self.temperature)))
            if self.top_p < 1.0:
                found.append(TopPLogitsWarper(float(self.top_p)))
        return found


def stop_tokens(model, tokenizer) -> set[int]:
    """Tokens that end an answer: the tokenizer's and the model's own list."""
    listed = model.generation_config.eos_token_id
    listed = listed if isinstance(listed, list) else [listed]
    return {token for token in (*listed, tokenizer.eos_token_id) if token is not None}


@torch.inference_mode()
def stream_tokens(
    model,
    prompt_ids: list[int],
    stops: set[int],
    sampling: Sampling,
    switched: Callable[[], AbstractContextManager],
) -> Iterator[int]:
    """Yield new token ids until a stop token or the length limit.

    `switched()` is entered around every step only, so two streams of one model (adapter on and
    off) can take turns. Each stream has its own key/value cache.
    """
    device = model.get_input_embeddings().weight.device
    cache, warpers = DynamicCache(config=model.config), sampling.warpers()
    source = torch.Generator(device=device).manual_seed(sampling.seed)
    ids = torch.tensor([prompt_ids], device=device)
    seen = ids
    for _ in range(sampling.max_new_tokens):
        with switched():
            out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        scores = warpers(seen, out.logits[:, -1].float())
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
def answer_seen(model, processor, prompt: str, images: list, max_new_tokens: int) -> str:
    """A greedy answer to one prompt with pictures, special tokens removed."""
    inputs = processor(text=[prompt], images=[images], add_special_tokens=False)
    inputs = inputs.convert_to_tensors("pt").to(model.get_input_embeddings().weight.device)
    out = model.generate(
        **inputs,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=processor.tokenizer.pad_token_id,
        eos_token_id=sorted(stop_tokens(model, processor.tokenizer)),
    )
    written = out[0, inputs["input_ids"].shape[1] :]
    return processor.tokenizer.decode(written, skip_special_tokens=True)


@torch.inference_mode()
def answer_batch(model, tokenizer, prompts: list[list[int]], max_new_tokens: int) -> list[str]:
    """Greedy answers to several prompts at once (left-padded), special tokens removed."""
    pad = tokenizer.pad_token_id
    width = max(len(prompt) for prompt in prompts)
    device = model.get_input_embeddings().weight.device
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=pad,
        eos_token_id=sorted(stop_tokens(model, tokenizer)),
    )
    return tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
