"""The comparison in words: the names of measures, which scores compare, who is ahead."""

from collections.abc import Sequence

from trainer_backend.comparison.answers import Given
from trainer_backend.comparison.compared import Compared, listed
from trainer_backend.comparison.leads import Lead
from trainer_backend.comparison.scores import (
    CUT,
    LOSS_NAMES,
    counted_differently,
    same_tokenizer,
)
from trainer_backend.evaluation.shown import measure_label, value_in_words
from trainer_backend.recipe import SETTINGS, label

OTHERS = {"dataset": "Data", "started_from": "Started from"}
SHORT = {
    "exact_match": "exact",
    "contains": "contain it",
    "json_valid": "valid JSON",
    "json_fields": "JSON fields",
    "label_f1": "label F1",
    "token_f1": "token F1",
    "tool_call_match": "tool calls",
    "loss": "loss",
    "perplexity": "perplexity",
}


def measure_name(name: str) -> str:
    """A measure as a heading; an unknown one keeps its own name."""
    return "Eval loss" if name == "eval_loss" else measure_label(name)


def setting_name(name: str) -> str:
    """A compared setting as the form calls it; one of another version keeps its own name."""
    return OTHERS.get(name) or (label(name) if name in SETTINGS else name)


def setting_words(name: str, value: object) -> str:
    """The value of a compared setting for a person; “–” for none."""
    if value is None:
        return "–"
    return SETTINGS[name].words(value) if name in SETTINGS else str(value)


def score_words(name: str, value: float | None) -> str:
    """A score for a person: “92%”, a loss as “0.813”, “–” for none."""
    if value is None:
        return "–"
    return value_in_words("loss" if name == "eval_loss" else name, value)


def short_score(name: str, value: float) -> str:
    """A score for a narrow column: “92% exact”, “loss 0.813”."""
    short, shown = SHORT.get(name, measure_name(name)), score_words(name, value)
    return f"{short} {shown}" if name in LOSS_NAMES else f"{shown} {short}"


def lead_words(lead: Lead, runs: Sequence[Compared]) -> str:
    """One sentence about the best run and another one."""
    best, other = runs[lead.best].label, runs[lead.other].label
    low, high = sorted((abs(lead.interval[0]), abs(lead.interval[1])))
    size = f"{lead.rows:,} shared rows"
    is_loss = lead.measure in LOSS_NAMES
    unit, times = ("lower", 1) if is_loss else ("points higher", 100)
    apart = f"{times * abs(lead.difference):.3g} {unit}"
    spread = f"{times * low:.3g} to {times * high:.3g}"
    name = measure_name(lead.measure)
    if lead.is_clear:
        return (
            f"“{best}” is better than “{other}”: {name} {apart} ({size}, 95 % interval {spread})."
        )
    if not lead.difference:
        return f"“{best}” and “{other}” have the same score: {name}, {size}."
    return (
        f"No clear difference between “{best}” and “{other}”: {name} is {apart} for the first, "
        f"but {size} are too few to tell."
    )


def notes_of(runs: Sequence[Compared], given: Sequence[Sequence[Given]], shared: int) -> list[str]:
    """What a reader must know before comparing the numbers, most important first."""
    return [
        *_on_data(runs),
        *_on_rows(runs, given, shared),
        *_on_tokens(runs),
        *_on_checkpoints(runs),
        *_on_missing(runs, given),
        *_on_gone(runs),
    ]


def _on_data(runs: Sequence[Compared]) -> list[str]:
    names = {one.data: str(one.spec["dataset"]["name"]) for one in runs}
    asked = {one.data_of(one.head) for one in runs if one.head is not None}
    if len(names) > 1:
        learned = f"The runs learned from different data: {listed(list(names.values()))}."
        if len(asked) == 1 and all(one.head is not None for one in runs):
            where = runs[0].head.dataset if runs[0].head else ""
            return [
                f"{learned} Their eval losses do not compare; their scores do: all were asked "
                f"the data “{where}”."
            ]
        return [
            f"{learned} Each was measured on rows of its own: neither scores nor losses compare."
        ]
    if len({one.held_out for one in runs}) > 1:
        why = label("eval_fraction", "seed")
        return [
            f"The runs held out different rows of the same data ({why}). Eval losses do not "
            "compare, and a row that one run held out may have been learned by another."
        ]
    return []


def _on_rows(runs: Sequence[Compared], given: Sequence[Sequence[Given]], shared: int) -> list[str]:
    counts = {one.label: len(rows) for one, rows in zip(runs, given, strict=True) if rows}
    if len(counts) < 2 or all(count == shared for count in counts.values()):
        return []
    numbers = ", ".join(f"“{name}” {count:,}" for name, count in counts.items())
    if not shared:
        return [
            f"The runs were asked different rows ({numbers}), none of them the same: {NO_SCORES}."
        ]
    same = "1 row is" if shared == 1 else f"{shared:,} rows are"
    return [
        f"The runs were not asked the same rows ({numbers}). {same} the same: only the scores "
        "over these compare."
    ]


NO_SCORES = "their scores do not compare"


def _on_tokens(runs: Sequence[Compared]) -> list[str]:
    if not same_tokenizer(runs):
        bases = list(dict.fromkeys(str(one.settings["base_model"]) for one in runs))
        return [
            f"Loss and perplexity are per token, and {listed(bases)} cut text into different "
            "tokens: compare scores of answers instead."
        ]
    if names := counted_differently(runs):
        return [
            "Losses and perplexities are not over the same tokens: the runs differ in "
            f"{label(*names)}."
        ]
    if names := counted_differently(runs, CUT):
        return [
            f"The runs differ in {label(*names)}: where rows are cut, losses are over other tokens."
        ]
    return []


def _on_checkpoints(runs: Sequence[Compared]) -> list[str]:
    """Scores of a checkpoint that is not the one the run ended with."""
    found = []
    for one in runs:
        last = one.state.get("result_step") or one.state.get("step")
        if one.head is not None and last and one.head.checkpoint not in (last, 0):
            found.append(
                f"The scores of “{one.label}” are those of its checkpoint of step "
                f"{one.head.checkpoint:,}; the run is at step {last:,}."
            )
    return found


def _on_missing(runs: Sequence[Compared], given: Sequence[Sequence[Given]]) -> list[str]:
    pairs = list(zip(runs, given, strict=True))
    found = [
        f"“{one.label}” is still under way: its numbers will change." for one in runs if one.is_live
    ]
    none = [one.label for one in runs if one.head is None and not one.old_answers()]
    if none:
        verb = "has" if len(none) == 1 else "have"
        found.append(f"{listed(none)} {verb} no evaluation yet, so no scores and no answers.")
    for one, rows in pairs:
        if rows and len(rows) < one.asked:
            found.append(f"Of the {one.asked:,} answers of “{one.label}”, {len(rows):,} were kept.")
    return found


def _on_gone(runs: Sequence[Compared]) -> list[str]:
    found = []
    if gone := [one.label for one in runs if one.data_is_gone()]:
        found.append(
            f"The data of {listed(gone)} is no longer here: it can be compared, not asked anew."
        )
    if gone := [one.label for one in runs if one.base_is_gone()]:
        found.append(
            f"The base model of {listed(gone)} is no longer on this machine: it can be compared, "
            "not asked anew."
        )
    return found
