"""Which measures fit the expected answers, and which one the verdict follows."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer_backend.evaluation.measures.json_answers import json_of
from trainer_backend.evaluation.measures.labels import label_key
from trainer_backend.evaluation.measures.scores import MEASURE_LABELS, MEASURES
from trainer_backend.evaluation.measures.words import plain, words
from trainer_backend.models.loaded.answer_parts import Answer

_OF_KIND = {  # the first is the one that the verdict follows
    "calls": ("tool_call_match", "exact_match"),
    "json": ("json_fields", "json_valid", "exact_match"),
    "labels": ("label_f1", "exact_match"),
    "short": ("exact_match", "contains", "token_f1"),
    "long": ("token_f1", "chrf", "rouge_l"),
}
_SAID = {
    "calls": "calls of tools",
    "json": "JSON",
    "labels": "labels",
    "short": "short answers",
    "long": "longer texts",
}
_FIRST = ("tool_call_match", "json_fields", "label_f1", "exact_match", "token_f1", "chrf")
SHORT_WORDS, SHORT_CHARS = 10, 80
MOST_LABELS, ROWS_A_LABEL = 20, 4
_ENOUGH = 0.1  # a kind of answer with a smaller share of the rows brings no measures of its own


@dataclass(frozen=True)
class Choice:
    """`names` are the measures, `main` is the one that the verdict follows, `why` says so.

    `labels` are the spellings of the labels, in order of their first row, if answers are labels.
    """

    names: tuple[str, ...]
    main: str
    why: str
    labels: tuple[str, ...] = ()


def choose_measures(expected: Sequence[Answer], wanted: Sequence[str] = ()) -> Choice:
    """The measures that fit these answers, or those `wanted`; either way the sentence that says it.

    Each row is one kind: calls of tools, a JSON object or list, a label (at most 20 different short
    answers, four rows or more for each), a short answer (most have up to 10 words) or a longer
    text. Kinds with a tenth of the rows bring their measures, and the verdict follows the kind with
    the most rows. Raises KeyError for a wanted name that is no measure.
    """
    kinds, labels = _kinds(expected)
    counts = {kind: kinds.count(kind) for kind in _OF_KIND if kind in kinds}
    order = sorted(counts, key=lambda kind: -counts[kind])
    if wanted:
        names = tuple(name for name in MEASURES if name in {_known(one) for one in wanted})
        fitting = [_OF_KIND[kind][0] for kind in order if _OF_KIND[kind][0] in names]
        main = (fitting or [name for name in _FIRST if name in names] or [names[0]])[0]
        return Choice(names, main, f"{_listed(names)} as chosen. {_followed(main)}", labels)
    if not order:
        names = _OF_KIND["long"]
        return Choice(names, names[0], "There are no expected answers to choose measures from.")
    kept = [kind for kind in order if counts[kind] >= _ENOUGH * len(kinds)]
    names = tuple(dict.fromkeys(name for kind in kept for name in _OF_KIND[kind]))
    why = f"{_reason(counts, order, labels)}: {_listed(names)}. {_followed(names[0])}"
    return Choice(names, names[0], why, labels)


def _kinds(expected: Sequence[Answer]) -> tuple[list[str], tuple[str, ...]]:
    """The kind of each row's answer, and the labels if texts are labels."""
    kinds = [
        "calls" if one.calls else "json" if json_of(one.content) is not None else "text"
        for one in expected
    ]
    texts = [
        plain(one.content) for one, kind in zip(expected, kinds, strict=True) if kind == "text"
    ]
    short = [len(words(text)) <= SHORT_WORDS and len(text) <= SHORT_CHARS for text in texts]
    labels = _labels(texts) if texts and all(short) else ()
    kind_of_text = "labels" if labels else "short" if sum(short) >= 0.8 * len(texts) else "long"
    return [kind_of_text if kind == "text" else kind for kind in kinds], labels


def _labels(texts: Sequence[str]) -> tuple[str, ...]:
    """The different texts if they are few enough to be labels, else none."""
    spelled: dict[str, str] = {}
    for text in texts:
        spelled.setdefault(label_key(text), text)
    few = 2 <= len(spelled) <= min(MOST_LABELS, len(texts) // ROWS_A_LABEL)
    return tuple(spelled.values()) if few else ()


def _known(name: str) -> str:
    return name if MEASURE_LABELS[name] else name


def _reason(counts: dict[str, int], order: list[str], labels: tuple[str, ...]) -> str:
    total = sum(counts.values())
    first = order[0]
    said = f"{len(labels)} different labels" if first == "labels" else _SAID[first]
    if len(order) == 1:
        return f"All expected answers are {said}"
    parts = [f"{counts[kind]} of {total} are {_SAID[kind]}" for kind in order]
    return f"Of the expected answers {_and(parts)}"


def _followed(main: str) -> str:
    return f"The verdict follows {MEASURE_LABELS[main]}."


def _listed(names: Sequence[str]) -> str:
    return _and([MEASURE_LABELS[name] for name in names])


def _and(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
