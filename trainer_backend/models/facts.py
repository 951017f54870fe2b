"""Facts of a base model before it is loaded: where it is, its sizes, licence, chat template.

What is wrong with it is said here once, for the page, the command line and the worker; asking the
Hub and reading folders happen elsewhere.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from trainer_backend.errors import Problem, UserError
from trainer_backend.models import folders
from trainer_backend.models.architectures import reads_images
from trainer_backend.models.hub_answers import HubAnswer, is_missing, keep_answer, kept_answer
from trainer_backend.models.hub_answers import ask_hub as answer_of_hub
from trainer_backend.models.repository import (
    TOKENIZERS,
    download_size,
    repository_problem,
    weight_size,
)
from trainer_backend.models.source import ModelSource, locate_model
from trainer_backend.recipe import STARTER_MODEL, ModelPreset, label, model_presets
from trainer_backend.recipe.resolve import is_prequantized

T = TypeVar("T")
TUNED = re.compile(
    r"(?i)(?:^|[-_.])(?:instruct|chat|it|sft|dpo|rlhf|assistant|thinking)(?:$|[-_.])"
)
UNTUNED = re.compile(r"(?i)(?:^|[-_.])(?:base|pt|pretrained)(?:$|[-_.])")
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
MAX_NAMED = 4  # models on this machine that a sentence names


@dataclass(frozen=True)
class ModelFacts:
    """Facts of a base model; None or "" stands for not known.

    `place` is "starter", "folder", "cache" (the Hub cache of this machine), "hub", or "unknown"
    (nobody could be asked). `config` is its config.json, or the sizes that a model preset states.
    """

    base_model: str
    place: str
    config: dict[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    weight_bytes: int | None = None  # of its safetensors files
    download_bytes: int | None = None  # 0 when everything is on this machine
    bits: int | None = None  # 4 or 8: weights stored quantized
    licence: str = ""
    gated: bool | None = None
    downloads: int | None = None  # a month, as the Hub counts
    chat_template: bool | None = None
    instruct: bool | None = None  # False: a base model that was not trained to chat
    images: bool = False
    problem: Problem | None = None  # why it cannot be trained, or what is not certain
    folder: Path | None = None  # on this machine
    asked: str = ""  # the day of the Hub's answer, as 2026-11-28

    @property
    def is_here(self) -> bool:
        """Whether it can be trained without a download."""
        return self.folder is not None and self.problem is None

    @property
    def is_refused(self) -> bool:
        """Whether it cannot be trained, as far as is known."""
        return self.problem is not None and self.problem.severity == "error"

    @property
    def architecture(self) -> str:
        """The model type, as transformers names it."""
        return str(self.config.get("model_type") or "")

    @property
    def max_positions(self) -> int | None:
        """The longest text in tokens that the model is made for."""
        texts = self.config.get("text_config")
        sizes = {**self.config, **(texts if isinstance(texts, dict) else {})}
        found = (sizes.get(name) for name in POSITIONS)
        return next((n for n in found if isinstance(n, int) and n > 0), None)


def model_facts(home: Path, base_model: str, *, ask_hub: bool = False) -> ModelFacts:
    """What is known of a model.

    Without `ask_hub` only files of this machine, model presets and earlier answers of the Hub are
    read (a few milliseconds); with it the Hub is asked about a model that is not on this machine,
    for two seconds if it is not there and five at most. Nothing is raised: what is wrong stands in
    `problem`.
    """
    name = (base_model or "").strip()
    try:
        source = locate_model(home, name)
    except UserError as error:
        place = "unknown" if error.code == "model_id" else "folder"
        return ModelFacts(name, place, problem=_problem(error))
    here = _on_this_machine(home, source)
    if here is not None or source.kind == "starter":
        return here or _from_preset(ModelFacts(name, "hub"))
    answer, problem = kept_answer(home, name), None
    if ask_hub:
        try:
            answer = answer_of_hub(name)
            keep_answer(home, answer)
        except UserError as error:
            problem = _unanswered(home, name, error)
    elif answer is None and is_missing(name):
        problem = _missing(home, name)
    place = "hub" if preset_of(name) else "unknown"
    facts = facts_of_answer(name, answer) if answer else _from_preset(ModelFacts(name, place))
    return replace(facts, problem=problem or facts.problem)


def require_model(home: Path, base_model: str) -> ModelFacts:
    """The facts of a model that is about to be used; the Hub is asked.

    Raises UserError when it cannot be trained. That the Hub cannot be reached is no error here.
    """
    facts = model_facts(home, base_model, ask_hub=True)
    if facts.problem and facts.is_refused:
        problem = facts.problem
        raise UserError(problem.what, problem.where, problem.fix, code=problem.code)
    return facts


def check_known(home: Path, base_model: str) -> None:
    """Raise UserError for a model that is known to be none, or not to be trainable.

    The Hub is not asked; what it once said about licences and access may have changed.
    """
    problem = model_facts(home, base_model).problem
    if problem and problem.severity == "error" and not problem.code.startswith("hub_"):
        raise UserError(problem.what, problem.where, problem.fix, code=problem.code)


def names_here(home: Path) -> list[str]:
    """What can be trained without a download: the starter model if fetched, cached, in folders."""
    starter = locate_model(home, STARTER_MODEL).folder
    found = [one.name for one in (*folders.cached_models(), *folders.rooted_models())]
    return [STARTER_MODEL, *(n for n in found if n != STARTER_MODEL)] if starter else found


def _problem(error: UserError, severity: str = "error") -> Problem:
    return Problem(severity, error.what, error.where, error.fix, code=error.code)


def _on_this_machine(home: Path, source: ModelSource) -> ModelFacts | None:
    """Facts of a model whose files are here; None if they are not."""
    folder = source.folder or folders.cached_folder(source.base_model)
    if folder is None:
        return None
    place = source.kind if source.folder else "cache"
    config = folders.small_json(folder / "config.json")
    facts = ModelFacts(
        source.base_model,
        place,
        config=config,
        parameters=folders.count_parameters(folder),
        weight_bytes=folders.weight_bytes(folder),
        download_bytes=0,
        bits=folders.stored_bits(config),
        licence=folders.licence_of(folder),
        chat_template=folders.has_chat_template(folder),
        images=reads_images(config),
        folder=folder,
    )
    if not any((folder / name).exists() for name in TOKENIZERS):
        what, fix = "The folder has no tokenizer.", "Copy the model again, with its tokenizer."
        problem = Problem("error", what, str(folder), fix, code="model_format")
        facts = replace(facts, problem=problem)
    answer = kept_answer(home, source.base_model)
    if answer:
        facts = replace(facts, downloads=answer.downloads, gated=answer.gated, asked=answer.asked)
        facts = replace(facts, licence=facts.licence or answer.licence)
    return _from_preset(replace(facts, instruct=_instruct(facts, answer)))


def facts_of_answer(name: str, answer: HubAnswer) -> ModelFacts:
    """Facts of a model by what the Hub has said of it."""
    where = f"{label('base_model')} “{name}”"
    facts = ModelFacts(
        name,
        "hub",
        config=answer.config,
        parameters=answer.parameters,
        weight_bytes=weight_size(answer) or answer.stated_bytes,
        download_bytes=download_size(answer) or answer.stated_bytes,
        bits=folders.stored_bits(answer.config),
        licence=answer.licence,
        gated=answer.gated,
        downloads=answer.downloads,
        chat_template=answer.chat_template,
        images=reads_images(answer.config),
        problem=repository_problem(answer, where),
        asked=answer.asked,
    )
    return _from_preset(replace(facts, instruct=_instruct(facts, answer)))


def _from_preset(facts: ModelFacts) -> ModelFacts:
    """With what is not known taken from the model's preset."""
    preset = preset_of(facts.base_model)
    if preset is None:
        bits = 4 if is_prequantized(facts.base_model) and not facts.config else None
        return replace(facts, bits=facts.bits or bits)
    config = facts.config if facts.config.get("model_type") else preset.config
    return replace(
        facts,
        config=config,
        parameters=facts.parameters or preset.num_parameters,
        weight_bytes=facts.weight_bytes or preset.weight_bytes,
        download_bytes=_or(facts.download_bytes, preset.weight_bytes),
        bits=facts.bits or folders.stored_bits(config),
        licence=preset.licence,
        gated=_or(facts.gated, preset.gated),
        chat_template=_or(facts.chat_template, preset.chat),
        instruct=preset.chat,
        images=facts.images or preset.images,
    )


def _or(known: T | None, stated: T | None) -> T | None:
    return stated if known is None else known


def preset_of(base_model: str) -> ModelPreset | None:
    """The model preset of a base model."""
    return next((one for one in model_presets() if one.base_model == base_model), None)


def _instruct(facts: ModelFacts, answer: HubAnswer | None) -> bool | None:
    """Whether a model was trained to chat, by its name, its origin and its chat template.

    A template alone proves nothing: many base models bring one.
    """
    name = facts.base_model.rstrip("/").rpartition("/")[2]
    if TUNED.search(name):
        return True
    if UNTUNED.search(name) or facts.chat_template is False:
        return False
    original = answer.original().rpartition("/")[2] if answer else ""
    return True if facts.chat_template and UNTUNED.search(original) else None


def _unanswered(home: Path, name: str, error: UserError) -> Problem:
    """The problem for a model that the Hub said nothing of, with what to choose instead."""
    if error.code == "hub_missing":
        return _missing(home, name)
    if error.code != "hub_down":
        return _problem(error, "warning")
    known = preset_of(name) or kept_answer(home, name)
    what = "The Hub cannot be reached, so this model cannot be {} now."
    fix = f"{_here_in_words(home)} To use this one, connect this machine to the Hub."
    what = what.format("downloaded" if known else "checked or downloaded")
    return Problem("warning", what, error.where, fix, code=error.code)


def _missing(home: Path, name: str) -> Problem:
    what, where = "The Hub has no such model, or it is private.", f"{label('base_model')} “{name}”"
    return Problem("error", what, where, _spelling(home, name), code="hub_missing")


def _spelling(home: Path, name: str) -> str:
    """The fix for an unknown id: the nearest one that is known here, or where to look."""
    known = [*(preset.base_model for preset in model_presets()), *names_here(home)]
    by_low = {one.lower(): one for one in known}
    near = get_close_matches(name.lower(), by_low, n=1, cutoff=0.75)
    if near:
        return f"Did you mean “{by_low[near[0]]}”? Private models need HF_TOKEN."
    return "Check the spelling (owner/name). Private models need HF_TOKEN."


def _here_in_words(home: Path) -> str:
    names = names_here(home)
    return f"On this machine: {_listed(names)}." if names else "The starter model needs no Hub."


def _listed(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    words = ["the starter model" if name == STARTER_MODEL else name for name in names]
    more = len(words) - MAX_NAMED
    return ", ".join(words[:MAX_NAMED]) + (f" and {more:,} more" if more > 0 else "")
