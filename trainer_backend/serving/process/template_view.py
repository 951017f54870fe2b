"""A recipe's chat template: where it comes from, its text, and what it makes of the rows."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer_backend.data.checks import NO_STOP
from trainer_backend.data.store import StoredDataset, open_dataset
from trainer_backend.errors import UserError
from trainer_backend.models.loaded.load import fetch_tokenizer
from trainer_backend.models.loaded.pretrained import tokenizer_of
from trainer_backend.recipe import SETTINGS, Recipe, is_template_text
from trainer_backend.recipe.chat_templates import BUILT_IN
from trainer_backend.serving.process.token_view import count_job, processing_of, view_row
from trainer_backend.tokens.chat_template import PLAIN_CHAT_TEMPLATE
from trainer_backend.tokens.counts import count_rows
from trainer_backend.tokens.templates.choice import template_text, unknown_marks
from trainer_backend.tokens.training_rows import training_row

CHECKED_ROWS = 200  # spread evenly over the dataset
NAMED_ROWS = 5


def view_template(home: Path, dataset_id: str, recipe: Recipe) -> dict[str, Any]:
    """The template, its origin in words, and without a dataset ("") nothing else.

    Returns {"origin", "template", "choice": what the recipe calls it, "unknown": marks without a
    token, "rows": {"checked", "of", "refused": [[row, reason]], "num_refused", "not_learned",
    "endless"}, "first": {"row", "view" or "error"}}.
    Raises UserError when the template cannot be used or the tokenizer cannot be fetched.
    """
    tokenizer = tokenizer_of(processing_of(home, recipe))
    template = tokenizer.get_chat_template()
    choice = _choice(home, recipe, template)
    found: dict[str, Any] = {
        "origin": _origin(home, replace(recipe, chat_template=choice)),
        "template": template,
        "choice": choice,
        "unknown": unknown_marks(template, tokenizer),
    }
    if not dataset_id:
        return found
    dataset = open_dataset(home, dataset_id)
    if dataset.format == "text" or not dataset.num_examples:
        return {**found, "plain": dataset.format == "text"}
    return {**found, "first": _first(home, dataset, recipe), "rows": _rows(home, dataset, recipe)}


def _choice(home: Path, recipe: Recipe, template: str) -> str:
    """The name of this template in a recipe, or its text if it has none."""
    if template == _own(home, recipe):
        return "model"
    named = (name for name in BUILT_IN if template_text(name).strip() == template.strip())
    return next(named, recipe.chat_template)


def _own(home: Path, recipe: Recipe) -> str:
    own = tokenizer_of(processing_of(home, replace(recipe, chat_template="model")))
    return own.get_chat_template()


def _origin(home: Path, recipe: Recipe) -> str:
    """Where the template comes from, in words."""
    choice = recipe.chat_template
    if is_template_text(choice):
        return "Your own template, from the editor or the recipe"
    if choice == "training":
        return "A training template, made from the model's own: plain talk stays as it is"
    if choice != "model":
        return f"The built-in template {SETTINGS['chat_template'].words(choice)}"
    if _own(home, recipe) == PLAIN_CHAT_TEMPLATE:
        return "A plain template, added because this model brings none (it is a base model)"
    return f"The model's own, from its file {_file(fetch_tokenizer(home, recipe.base_model))}"


def _file(folder: Path) -> str:
    """The file of a model folder that holds its chat template."""
    if (folder / "chat_template.jinja").exists():
        return "chat_template.jinja"
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = {}
    known = isinstance(settings, dict) and settings.get("chat_template")
    return "tokenizer_config.json" if known else "chat_template.json"


def _first(home: Path, dataset: StoredDataset, recipe: Recipe) -> dict[str, Any]:
    """The first usable row as training sees it, or why the template refuses it."""
    row = next(iter(dataset.examples([0]))).row
    try:
        return {"row": row, "view": view_row(home, dataset.id, row, recipe)}
    except UserError as error:
        return {"row": row, "error": error.to_dict()}


def _rows(home: Path, dataset: StoredDataset, recipe: Recipe) -> dict[str, Any]:
    """What the template does with some of the rows: refused, nothing to learn, no end."""
    count = min(CHECKED_ROWS, dataset.num_examples)
    at = np.unique(np.linspace(0, dataset.num_examples - 1, count).astype(int)).tolist()
    examples = list(dataset.examples(at))
    rows = [training_row(example, recipe.system_prompt) for example in examples]
    numbers, content, refused = count_rows(rows, count_job(home, dataset, recipe))
    read = numbers[0] > 0
    return {
        "checked": len(rows),
        "of": dataset.num_examples,
        "num_refused": len(refused),
        "refused": [[examples[i].row, why] for i, why in sorted(refused.items())[:NAMED_ROWS]],
        "not_learned": int((read & (numbers[3] == 0)).sum()),
        "endless": int((read & (content & NO_STOP > 0)).sum()),
    }
