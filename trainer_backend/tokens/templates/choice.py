"""The chat template that a recipe names: the model's own, a training template, a built-in, a text.

It is set on the tokenizer, so that training, token view, chat and every export use the same one.
No conversation of a dataset is rendered here.
"""

import difflib
import re
from importlib.resources import files

from jinja2.exceptions import TemplateSyntaxError
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.utils.chat_template_utils import _compile_jinja_template

from trainer_backend.errors import UserError
from trainer_backend.recipe import is_template_text, label
from trainer_backend.recipe.chat_templates import BUILT_IN
from trainer_backend.tokens.templates.training import is_training_template, training_template

MARKS = re.compile(r"<\|[^|<>{}'\s]{1,40}\|>|<(?:start|end)_of_\w+>|\[/?INST\]|</?s>")


def use_chat_template(tokenizer: Tokenizer, choice: str, model: str = "") -> None:
    """Give the tokenizer the template of a recipe's `chat_template`.

    `choice` is "model", "training", the name of a built-in template, or the text of one (Jinja).
    Raises UserError for a text that is no template, an unknown name, and when there is no training
    template for this model.
    """
    if choice == "model":
        return
    if choice != "training":
        tokenizer.chat_template = template_text(choice)
        return
    if is_training_template(str(tokenizer.chat_template)):
        return
    template = training_template(tokenizer)
    if template is None:
        raise UserError(
            "There is no training template for this model: no built-in template writes plain talk "
            "as the model's own does.",
            model or str(getattr(tokenizer, "name_or_path", "")),
            f"Set “{label('chat_template')}” to the model's own template.",
            code="no_training_template",
        )
    tokenizer.chat_template = template


def template_text(choice: str) -> str:
    """The text of a built-in template, or a checked text itself. Raises UserError for another."""
    if is_template_text(choice):
        check_template(choice)
        return choice
    if choice not in BUILT_IN:
        near = difflib.get_close_matches(choice, BUILT_IN, n=1)
        fix = f"Use {near[0]}." if near else f"Use one of: {', '.join(BUILT_IN)}, or a Jinja text."
        raise UserError(f"There is no chat template “{choice[:60]}”.", label("chat_template"), fix)
    file = files("trainer_backend.tokens.templates").joinpath(f"built_in/{choice}.jinja")
    return file.read_text(encoding="utf-8")


def check_template(text: str) -> None:
    """Raise UserError, with the line, for a text that is no Jinja or that writes no messages."""
    where = label("chat_template")
    try:
        _compile_jinja_template(text)
    except TemplateSyntaxError as error:
        said = (error.message or "a syntax error").rstrip(".")
        raise UserError(
            f"The chat template cannot be read: {said}.",
            f"{where}, line {error.lineno}",
            "Correct this line. A {% for %} needs an {% endfor %}, an {% if %} an {% endif %}.",
            code="chat_template",
        ) from None
    if "messages" not in text:
        raise UserError(
            "The chat template does not write the messages.",
            where,
            "Loop over them: {% for message in messages %} … {% endfor %}.",
            code="chat_template",
        )


def unknown_marks(template: str, tokenizer: Tokenizer) -> list[str]:
    """Marks such as <|im_end|> that a template writes and the tokenizer has no token for.

    The tokenizer splits them like any other text, so that the model has never seen them as marks.
    """
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    found = dict.fromkeys(MARKS.findall(template))
    return [mark for mark in found if mark not in added and len(_ids(mark, tokenizer)) > 1]


def _ids(text: str, tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)
