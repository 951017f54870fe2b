"""Special tokens: EOS, padding, and a chat template copied from another tokenizer.

Model, tokenizer and generation settings are changed together, so that a trained model stops.
"""

from pathlib import Path

from transformers import AutoTokenizer, ProcessorMixin
from transformers import PreTrainedTokenizerBase as Tokenizer

from trainer_backend.models.loaded.generate import keep_stops
from trainer_backend.models.loaded.pretrained import PAD_VOCABULARY, AnyModel, input_embedding
from trainer_backend.tokens.templates.choice import use_chat_template
from trainer_backend.training.sft_config import SFTConfig


def set_special_tokens(
    model: AnyModel, tokenizer: Tokenizer, eos_token: str | None, pad_token: str | None
) -> None:
    """Set the EOS and padding token; without a padding token EOS pads.

    Raises ValueError for a token that is not in the vocabulary.
    """
    for setting, token in (("eos_token", eos_token), ("pad_token", pad_token)):
        if token is not None and token not in tokenizer.get_vocab():
            raise ValueError(
                f"{setting}={token!r} is not in this tokenizer's vocabulary. Choose another."
            )
    if eos_token is not None:
        set_eos(model, tokenizer, eos_token)
    if pad_token is not None:
        tokenizer.pad_token = pad_token
    elif tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    # the model's own settings must agree, or the Trainer changes them with a warning
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id


def set_eos(model: AnyModel, tokenizer: Tokenizer, token: str) -> None:
    """Make `token` the EOS token of the tokenizer, the model and its generation settings."""
    tokenizer.eos_token = token
    number = tokenizer.eos_token_id
    model.config.get_text_config().eos_token_id = number
    generation = getattr(model, "generation_config", None)
    if generation is None:
        return
    known = generation.eos_token_id
    known = [] if known is None else known if isinstance(known, list) else [known]
    if number not in known:
        generation.eos_token_id = [number, *known]


def apply_chat_template_path(model: AnyModel, tokenizer: Tokenizer, path: str) -> list[int]:
    """Use a .jinja file, or copy template, EOS and tokens of the tokenizer `path`.

    Returns the ids of tokens that were added; the embedding grows to hold them. Raises OSError when
    there is no such file or tokenizer.
    """
    if path.endswith((".jinja", ".j2")):
        tokenizer.chat_template = Path(path).read_text(encoding="utf-8")
        return []
    source = AutoTokenizer.from_pretrained(path)
    tokenizer.chat_template = source.get_chat_template()
    known = tokenizer.get_vocab()
    added = [t for t in source.added_tokens_decoder.values() if t.content not in known]
    tokenizer.add_tokens(added)
    if len(tokenizer) > len(input_embedding(model)):
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=PAD_VOCABULARY)
    set_eos(model, tokenizer, source.eos_token)
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[token.content] for token in added]


def prepare_tokens(
    model: AnyModel, tokenizer: Tokenizer, args: SFTConfig, processor: ProcessorMixin | None = None
) -> list[int]:
    """Apply eos_token, pad_token and the chat template; returns the ids of added tokens.

    A vision model's processor and its tokenizer share one chat template. Raises ValueError for a
    token that is not in the vocabulary, UserError where there is no training template.
    """
    set_special_tokens(model, tokenizer, args.eos_token, args.pad_token)
    added: list[int] = []
    if processor is not None and processor.chat_template:
        tokenizer.chat_template = processor.chat_template
    if args.chat_template_path is not None:
        added = apply_chat_template_path(model, tokenizer, args.chat_template_path)
    use_chat_template(tokenizer, args.chat_template)
    if processor is not None:
        processor.chat_template = tokenizer.chat_template
    keep_stops(model, tokenizer)
    return added
