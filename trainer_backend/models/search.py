"""Searching models: those on this machine, the presets, and the Hub, by the words of a visitor.

Lists only: what one model is, is said elsewhere. Whether it fits is not known here.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import huggingface_hub as hub
from huggingface_hub import errors as hub_errors

from trainer_backend.models.facts import ModelFacts, facts_of_answer, model_facts, names_here
from trainer_backend.models.hub_answers import (
    HubAnswer,
    answer_of,
    keep_answers,
    small_file,
    within_reach,
)
from trainer_backend.recipe import ModelPreset, label, model_presets

MAX_SHOWN = 20
ASKED_FOR = 60  # of these many are GGUF files or adapters
AT_ONCE = 8  # requests for config.json
EXPANDED: tuple[Any, ...] = (
    *("config", "cardData", "downloads", "gated", "library_name"),
    *("safetensors", "sha", "siblings", "tags"),
)


@dataclass(frozen=True)
class Found:
    """Models of the Hub that can be trained; `left_out` counts others that match the words."""

    models: list[ModelFacts]
    left_out: int = 0


def models_here(home: Path, words: str) -> list[ModelFacts]:
    """The models on this machine whose name has all the words."""
    return [model_facts(home, name) for name in names_here(home) if _has(words, name)][:MAX_SHOWN]


def suggested(words: str, without: Sequence[str] = ()) -> list[ModelPreset]:
    """The presets whose title or id has all the words, smallest first."""
    return [
        one
        for one in model_presets()
        if one.base_model not in without and _has(words, f"{one.title} {one.base_model}")
    ]


def _has(words: str, text: str) -> bool:
    return all(word in text.lower() for word in words.lower().split())


def search_hub(home: Path, words: str) -> Found:
    """The most downloaded models of the Hub with these words in their id.

    Their config.json is fetched too, so that their sizes are known, and all are kept in the home.
    Raises UserError as asking about one model does; takes two seconds offline, five at most.
    """
    answers = within_reach(lambda: _ask(words), f"{label('base_model')} “{words[:80]}”")
    keep_answers(home, answers)
    facts = [facts_of_answer(answer.base_model, answer) for answer in answers]
    fit = [one for one in facts if not one.is_refused or _gated(one)]
    return Found(fit[:MAX_SHOWN], len(facts) - len(fit))


def _gated(facts: ModelFacts) -> bool:
    return facts.problem is not None and facts.problem.code == "hub_gated"


def _ask(words: str) -> list[HubAnswer]:
    entries = hub.HfApi().list_models(
        search=words, sort="downloads", limit=ASKED_FOR, expand=list(EXPANDED)
    )
    answers = [
        answer_of(one, {file.rfilename: 0 for file in one.siblings or []}) for one in entries
    ]
    known = [facts_of_answer(one.base_model, one) for one in answers]
    wanted = [n for n, facts in enumerate(known) if not facts.is_refused][:MAX_SHOWN]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        whole = list(pool.map(_with_config, [answers[n] for n in wanted]))
    for n, answer in zip(wanted, whole, strict=True):
        answers[n] = answer
    return answers


def _with_config(answer: HubAnswer) -> HubAnswer:
    """With the sizes of its config.json, where the Hub gives it out."""
    try:
        config = small_file(answer.base_model, "config.json", answer.commit)
    except hub_errors.GatedRepoError:
        return replace(answer, readable=False)
    except (hub_errors.HTTPError, hub_errors.EntryNotFoundError, OSError):
        return answer
    return replace(answer, config=config or answer.config)
