"""What a run's model is asked with, so that it is asked as it was trained: system text, tools.

Read from the run's settings and its rows, without torch. No prompt is built here.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from jinja2 import Environment, TemplateError, meta

from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import UserError
from trainer_backend.home import read_json
from trainer_backend.models.loaded.answer_parts import tool_names
from trainer_backend.runs.run import Run

LOOKED_AT = 500  # rows whose system text is compared
MOST_TOOLS = 20_000  # characters of a set of tools
# variables of chat templates that switch thinking on or off
SWITCHES = (
    *("enable_thinking", "thinking", "enable_reasoning", "reasoning", "think"),
    *("skip_thinking", "skip_think", "disable_thinking", "thinking_budget"),
)
IMAGE_FILES = ("processor_config.json", "preprocessor_config.json")  # of models that read images


@dataclass(frozen=True)
class Asking:
    """How a run's model is asked unless the person says otherwise.

    `tools` are those that most rows with tools have, `with_tools` the number of such rows, and
    `gives_tools` whether at least half of the run's rows have tools. `images`: the model reads
    pictures; `thinks`: its chat template has a thinking switch.
    """

    system: str = ""
    tools: list[Any] = field(default_factory=list)
    with_tools: int = 0
    gives_tools: bool = False
    thinking: str = "auto"
    control_tokens: str = "auto"
    images: bool = False
    thinks: bool = False

    @property
    def given(self) -> list[Any]:
        """The tools to ask with: none where most rows have none."""
        return self.tools if self.gives_tools else []


def asking_of(run: Run) -> Asking:
    """How a run was trained. Without its dataset the tools and the rows' system text are unknown.

    Raises UserError if the run cannot be read.
    """
    recipe = run.recipe()
    result = run.result()
    known: dict[str, Any] = {
        "thinking": recipe.thinking,
        "control_tokens": recipe.control_tokens,
        "images": result is not None and reads_images(result.path),
        "thinks": result is not None and has_switch(result.path),
    }
    try:
        dataset = run.dataset()
    except UserError:  # it was deleted
        return Asking(system=recipe.system_prompt, **known)
    tools, count = _frequent_tools(dataset)
    system = recipe.system_prompt or _frequent_system(dataset)
    often = 2 * count >= max(1, dataset.num_examples)
    return Asking(system, tools, count, bool(tools) and often, **known)


def read_tools(text: str, where: str) -> list[Any]:
    """A list of tools from JSON text; none from an empty text. Raises UserError for anything else.

    Each is OpenAI's {"type": "function", "function": {"name", …}} or has a name itself.
    """
    if not text.strip():
        return []
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(
            "The tools are not JSON.", where, f"Correct them, or leave the field empty: {error}."
        ) from error
    found = [found] if isinstance(found, dict) else found
    if not isinstance(found, list) or len(tool_names(found)) != len(found):
        raise UserError(
            "The tools are not a list of functions with names.",
            where,
            'Write [{"type": "function", "function": {"name": "…", "parameters": {…}}}].',
        )
    return found


def reads_images(folder: Path) -> bool:
    """Whether the model in a folder comes with a processor of images."""
    return any((folder / name).is_file() for name in IMAGE_FILES)


def has_switch(folder: Path) -> bool:
    """Whether the chat template in a model's folder reads a thinking switch."""
    return any(set(SWITCHES) & _variables(text) for text in _templates(folder))


def _templates(folder: Path) -> list[str]:
    own, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if own.is_file():
        return [own.read_text(encoding="utf-8", errors="replace")]
    settings: Any = read_json(config, {}) if config.is_file() else {}
    found = settings.get("chat_template") if isinstance(settings, dict) else None
    named = found if isinstance(found, list) else [{"template": found}]
    return [str(one["template"]) for one in named if one.get("template")]


def _variables(template: str) -> set[str]:
    """Names that a template reads and does not set; none if it cannot be parsed."""
    template = re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", template)
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
        return set(meta.find_undeclared_variables(tree))
    except TemplateError:
        return set()


def _frequent_tools(dataset: StoredDataset) -> tuple[list[Any], int]:
    """The set of tools that most rows share, and the number of rows with tools."""
    if "tools" not in pq.read_schema(dataset.examples_path).names:
        return [], 0
    cells = pq.read_table(dataset.examples_path, columns=["tools"])["tools"].drop_null()
    if not len(cells):
        return [], 0
    counted = pc.value_counts(cells.combine_chunks())
    most = max(counted.to_pylist(), key=lambda one: one["counts"])
    found = json.loads(most["values"]) if len(most["values"]) <= MOST_TOOLS else []
    return (found if isinstance(found, list) else []), len(cells)


def _frequent_system(dataset: StoredDataset) -> str:
    """The system text of the rows, where more than half of the first ones share it."""
    rows = list(islice(dataset.examples(range(min(LOOKED_AT, dataset.num_examples))), LOOKED_AT))
    texts = Counter(
        one.messages[0].get("content")
        for one in rows
        if one.messages and one.messages[0].get("role") == "system"
    )
    text, count = texts.most_common(1)[0] if texts else ("", 0)
    return text if isinstance(text, str) and 2 * count > len(rows) else ""
