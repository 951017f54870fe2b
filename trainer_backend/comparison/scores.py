"""Which evaluation stands for each compared run, which of their scores compare, and which is best.

Losses and perplexities are per token: they compare only for one tokenizer and the same counted
tokens. Scores of answers compare for the same rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trainer_backend.comparison.answers import Given, SharedRow
from trainer_backend.comparison.compared import Compared
from trainer_backend.evaluation.results import LOSSES, Evaluation, heads_of

LOSS_NAMES = ("eval_loss", *LOSSES)
EQUAL = 1e-9
# settings that change which tokens a loss is over, or what it adds to it
COUNTED = (
    *("assistant_only_loss", "last_turn_only", "system_prompt", "chat_template", "thinking"),
    *("eos_token", "control_tokens", "loss_type", "label_smoothing_factor"),
)
CUT = ("max_length", "truncation_mode")  # they change it only where rows are cut


@dataclass(frozen=True)
class Scores:
    """The scores side by side.

    `values` is {name: the value of each run, None where it has none}; `compare` says which names
    compare between all runs that have one; `best` is {name: places of the best runs}, for those
    that compare and differ. `shared` are the means over the rows that all runs were asked.
    """

    values: dict[str, list[float | None]]
    base: dict[str, list[float | None]]
    better: dict[str, str]
    compare: dict[str, bool]
    best: dict[str, list[int]]
    shared_rows: int = 0
    shared: dict[str, list[float | None]] = field(default_factory=dict)
    shared_best: dict[str, list[int]] = field(default_factory=dict)


def with_heads(runs: Sequence[Compared]) -> list[Compared]:
    """The runs with the evaluations to compare.

    Their newest ones on their own held-out rows; where these are of different data, the newest ones
    on data that all of them were asked about, if there is any.
    """
    known = [heads_of(one.run) for one in runs]
    own = [next((head for head in heads if head.held_out), None) for heads in known]
    same = len({one.held_out for one in runs}) == 1
    common = set.intersection(*({head.dataset_id for head in heads} for heads in known)) - {""}
    if (not same or None in own) and common:
        newest = max(
            (head for heads in known for head in heads if head.dataset_id in common),
            key=lambda head: head.created_at,
        )
        own = [_on(heads, newest.dataset_id) for heads in known]
    heads = [
        head or next(iter(all_heads), None) for head, all_heads in zip(own, known, strict=True)
    ]
    return [replace(one, head=head) for one, head in zip(runs, heads, strict=True)]


def _on(heads: Sequence[Evaluation], dataset_id: str) -> Evaluation | None:
    return next((head for head in heads if head.dataset_id == dataset_id), None)


def metrics_of(one: Compared) -> dict[str, dict[str, Any]]:
    """{name: {"base", "tuned", "better"}} of a run; of an old run, its answer check."""
    if one.head is not None:
        return {
            name: {"base": metric.base, "tuned": metric.tuned, "better": metric.better}
            for name, metric in one.head.metrics.items()
        }
    old = one.old_answers()
    if not old:
        return {}
    return {"exact_match": {"base": old.get("base"), "tuned": old["tuned"], "better": "higher"}}


def compare_scores(
    runs: Sequence[Compared], given: Sequence[Sequence[Given]], shared: Sequence[SharedRow]
) -> Scores:
    """The scores of runs that have their heads, and of the rows that they share."""
    metrics = [metrics_of(one) for one in runs]
    names = list(dict.fromkeys(name for one in metrics for name in one))
    better = {name: one[name]["better"] for one in metrics for name in one}
    losses = [_number(one.state.get("eval_loss")) for one in runs]
    values = {"eval_loss": losses} if any(one is not None for one in losses) else {}
    values |= {name: [_value(one, name, "tuned") for one in metrics] for name in names}
    better = {"eval_loss": "lower", **better}
    compare = {name: _compares(name, runs, given, len(shared)) for name in values}
    best = {
        name: places
        for name in values
        if compare[name] and (places := best_places(values[name], better[name]))
    }
    means = (
        _shared_means(given, shared, metrics)
        if any(len(rows) > len(shared) for rows in given)
        else {}
    )
    return Scores(
        values,
        {name: [_value(one, name, "base") for one in metrics] for name in names},
        {name: better[name] for name in values},
        compare,
        best,
        len(shared),
        means,
        {name: found for name in means if (found := best_places(means[name], better[name]))},
    )


def _value(metrics: dict[str, dict[str, Any]], name: str, which: str) -> float | None:
    return _number(metrics[name][which]) if name in metrics else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def best_places(values: Sequence[float | None], better: str) -> list[int]:
    """The places of the best values; [] if fewer than two are known, or all are the same."""
    known = [one for one in values if one is not None]
    if len(known) < 2 or max(known) - min(known) <= EQUAL:
        return []
    best = min(known) if better == "lower" else max(known)
    return [at for at, one in enumerate(values) if one is not None and abs(one - best) <= EQUAL]


def _compares(
    name: str, runs: Sequence[Compared], given: Sequence[Sequence[Given]], shared: int
) -> bool:
    if name == "eval_loss":
        same_rows = len({one.held_out for one in runs}) == 1
    else:
        asked = {one.asked for one, rows in zip(runs, given, strict=True) if rows}
        same_rows = shared > 0 and len(asked) == 1
        same_rows = same_rows and all(len(rows) in (0, shared) for rows in given)
    if name not in LOSS_NAMES:
        return same_rows
    return same_rows and same_tokenizer(runs) and not counted_differently(runs)


def same_tokenizer(runs: Sequence[Compared]) -> bool:
    """Whether all runs count the same tokens in a text, as far as is known."""
    bases = {one.settings["base_model"] for one in runs}
    return len(bases) == 1 or len({one.tokenizer for one in runs}) == 1


def counted_differently(runs: Sequence[Compared], names: Sequence[str] = COUNTED) -> list[str]:
    """The settings in which the runs differ and which change what a loss is over."""
    return [name for name in names if len({str(one.settings.get(name)) for one in runs}) > 1]


def _shared_means(
    given: Sequence[Sequence[Given]],
    shared: Sequence[SharedRow],
    metrics: Sequence[dict[str, dict[str, Any]]],
) -> dict[str, list[float | None]]:
    """The mean of each run over the shared rows, of the measures that are means over rows."""
    first = next((scores for scores in shared[0].scores if scores), {}) if shared else {}
    names = [
        name
        for name in first
        if all(not row or name in row for one in shared for row in one.scores)
        and all(_is_a_mean(name, *both) for both in zip(given, metrics, strict=True) if both[0])
    ]
    return {
        name: [mean(column) if column else None for column in columns_of(shared, name)]
        for name in names
    }


def _is_a_mean(name: str, rows: Sequence[Given], metrics: dict[str, dict[str, Any]]) -> bool:
    """Whether a measure is the mean of its rows: some are over all rows at once."""
    known = [row.scores[name]["tuned"] for row in rows if name in row.scores]
    whole = _value(metrics, name, "tuned")
    return bool(known) and whole is not None and abs(mean(known) - whole) < 1e-4


def columns_of(shared: Sequence[SharedRow], name: str) -> list[list[float]]:
    """The scores of each run in the shared rows; [] for a run without answers."""
    runs = zip(*(row.scores for row in shared), strict=True)
    return [[scores[name] for scores in column if scores] for column in runs]


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean of at least one value."""
    return sum(values) / len(values)
