"""Better, worse or no clear difference: one sentence in plain words, and what to know first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from trainer_backend.evaluation.measures.scores import MEASURE_LABELS
from trainer_backend.evaluation.results import Metric

FEWEST_ROWS = 6  # a sign test cannot tell anything from five (2 * 0.5 ** 5 > 0.05)
SOON_TOLD = 100  # rows from which a tie is put down to the run, not to their small number
_UNCLEAR = "no clear difference"
_ONLY_FORM = (
    "the answers fit other rows nearly as well as their own: these rows show that the run learned "
    "the form of the answers, not which answer belongs to which prompt."
)
_CHECKS = {"token_f1": "chrf", "chrf": "token_f1"}  # free text: both must not disagree


class Verdict(NamedTuple):
    """One of VERDICTS, the sentence that begins with it, and the warnings, the gravest first."""

    verdict: str
    sentence: str
    warnings: list[str]


@dataclass(frozen=True)
class Learning:
    """What the run's own log says: the mean loss of its last training steps, and (step, loss) of
    its evaluations up to the checkpoint that was asked, in order."""

    train_loss: float | None = None
    eval_losses: Sequence[tuple[int, float]] = ()


def verdict_of(
    main: str,
    metrics: Mapping[str, Metric],
    control: Metric | None = None,
    learning: Learning | None = None,
) -> Verdict:
    """The verdict on a run, by the measure `main` and never by the loss alone.

    Better or worse: the 95 % interval of the main measure's difference is on one side of 0, over
    at least 6 rows; token F1 and chrF must not point in opposite directions. Better asks for one
    thing more: against the expected answers of other rows (`control`) the gain must remain, or
    the run has learned the form of the answers and not which answer belongs to which prompt.
    """
    metric = metrics.get(main)
    loss = metrics.get("loss")
    warnings = _loss_warnings(loss, learning or Learning())
    if metric is None or not metric.rows:
        return Verdict(_UNCLEAR, _nothing_scored(main), warnings)
    verdict = _side(metric)
    numbers = _SENTENCES[main](metric)
    if verdict == "worse":
        grave = f"The run made the model worse: {numbers}."
        return Verdict(verdict, f"Worse: {numbers}.", [grave, *warnings])
    if verdict == "better" and _opposed(main, metrics):
        return Verdict(
            _UNCLEAR, f"No clear difference: {numbers}. {_opposed(main, metrics)}", warnings
        )
    if verdict == "better" and control and control.interval[0] <= 0:
        said = f"No clear difference: {numbers}. But {_ONLY_FORM}"
        return Verdict(_UNCLEAR, said, [_ONLY_FORM[0].upper() + _ONLY_FORM[1:], *warnings])
    if verdict == "better":
        return Verdict(verdict, f"Better: {numbers}.", warnings)
    sentence = f"No clear difference: {numbers}. {_so_few(metric)}".rstrip()
    return Verdict(verdict, sentence, warnings)


def _side(metric: Metric) -> str:
    if metric.rows < FEWEST_ROWS or metric.interval[0] <= 0 <= metric.interval[1]:
        return _UNCLEAR
    return "better" if (metric.interval[0] > 0) == (metric.better == "higher") else "worse"


def _opposed(main: str, metrics: Mapping[str, Metric]) -> str:
    """That the other measure of free text got clearly worse, or nothing."""
    name = _CHECKS.get(main, "")
    other = metrics.get(name)
    if other is None or _side(other) != "worse":
        return ""
    return f"{MEASURE_LABELS[name]} says the opposite: {_two(other)}."


def _nothing_scored(main: str) -> str:
    return f"No clear difference: no row could be scored by {MEASURE_LABELS.get(main, main)}."


def _so_few(metric: Metric) -> str:
    """That few rows cannot tell, with the difference that they would show."""
    if metric.rows == 1:
        return "One row cannot tell."
    if metric.rows < FEWEST_ROWS:
        return f"{metric.rows} rows cannot tell: at least {FEWEST_ROWS} are needed."
    if metric.rows >= SOON_TOLD:
        return ""
    half = (metric.interval[1] - metric.interval[0]) / 2
    return f"So few rows cannot tell: only a difference of about {half:.2f} or more would show."


def _loss_warnings(loss: Metric | None, learning: Learning) -> list[str]:
    found = []
    if loss and loss.rows > 1 and loss.interval[0] > 0:
        found.append(
            f"The loss on these rows is higher than the base model's: {loss.tuned:.2f} "
            f"against {loss.base:.2f}."
        )
    losses = [value for _, value in learning.eval_losses]
    last = losses[-1] if losses else loss.tuned if loss else None
    train = learning.train_loss
    if train is not None and last is not None and train < last / 2 and last - train >= 0.3:
        found.append(
            f"The run knows its training rows by heart: its loss is {train:.2f} on them and "
            f"{last:.2f} on held-out rows."
        )
    if losses and losses[-1] > 1.03 * min(losses):
        step, best = min(learning.eval_losses, key=lambda pair: pair[1])
        found.append(
            f"The evaluation loss rose from {best:.2f} at step {step} to {losses[-1]:.2f}: the run "
            f"went on too long. The checkpoint of step {step} may answer better."
        )
    return found


# The main measure in words: (metric) -> a clause


def _counted(what: str) -> Callable[[Metric], str]:
    def words(metric: Metric) -> str:
        tuned, base = (round(share * metric.rows) for share in (metric.tuned, metric.base))
        return f"{tuned} of {metric.rows} answers {what}, the base model had {base}"

    return words


def _scored(what: str) -> Callable[[Metric], str]:
    def words(metric: Metric) -> str:
        return f"{what} is {_two(metric)}, over {_rows(metric.rows)}"

    return words


def _fields(metric: Metric) -> str:
    return (
        f"{metric.tuned:.0%} of the JSON fields are right, the base model had {metric.base:.0%}, "
        f"over {_rows(metric.rows)}"
    )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _two(metric: Metric) -> str:
    return f"{metric.tuned:.2f}, the base model's {metric.base:.2f}"


_SENTENCES: dict[str, Callable[[Metric], str]] = {
    "exact_match": _counted("match exactly"),
    "contains": _counted("contain the expected text"),
    "json_valid": _counted("are valid JSON"),
    "tool_call_match": _counted("make the right calls"),
    "json_fields": _fields,
    "label_f1": _scored("macro F1 of the labels"),
    "token_f1": _scored("token F1 with the expected texts"),
    "chrf": _scored("chrF with the expected texts"),
    "rouge_l": _scored("ROUGE-L with the expected texts"),
}
