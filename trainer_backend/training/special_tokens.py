"""Tokens with a job: the end of an answer, padding, and a chat format copied from another model.

Model and tokenizer are changed together, so that what is trained stops when it is used.
"""

from pathlib import Path

from transformers import AutoTokenizer


def set_special_tokens(model, tokenizer, eos_token: str | None, pad_token: str | None) -> None:
    """Apply the asked-for tokens; padding falls back to the end-of-text token."""
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
    _tell_model(model, "pad_token_id", tokenizer.pad_token_id)


def set_eos(model, tokenizer, token: str) -> None:
    """Make a token end answers: for the tokenizer, the model and its generation."""
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


def _tell_model(model, name: str, number: int | None) -> None:
    """The model's own settings say the same, or the Trainer would correct them with a warning."""
    setattr(model.config.get_text_config(), name, number)
    if getattr(model, "generation_config", None) is not None:
        setattr(model.generation_config, name, number)


def apply_chat_template_path(model, tokenizer, path: str) -> list[int]:
    """Use a template file, or copy another tokenizer's template and tokens; returns new ids."""
    if path.endswith((".jinja", ".j2")):
        tokenizer.chat_template = Path(path).read_text(encoding="utf-8")
        return []
    source = AutoTokenizer.from_pretrained(path)
    tokenizer.chat_template = source.get_chat_template()
    known = tokenizer.get_vocab()
    added = [t for t in source.added_tokens_decoder.values() if t.content not in known]
    tokenizer.add_tokens(added)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
    set_eos(model, tokenizer, source.eos_token)
    return [tokenizer.convert_tokens_to_ids(token.content) for token in added]


def prepare_tokens(model, tokenizer, args, processor=None) -> list[int]:
    """Do everything the settings ask for; returns the ids of tokens that were added.

    A vision model's processor and its tokenizer share one chat template.
    """
    set_special_tokens(model, tokenizer, args.eos_token, args.pad_token)
    added = []
    if getattr(processor, "chat_template", None):
        tokenizer.chat_template = processor.chat_template
    if args.chat_template_path is not None:
        added = apply_chat_template_path(model, tokenizer, args.chat_template_path)
    if processor is not None:
        processor.chat_template = tokenizer.chat_template
    return added
