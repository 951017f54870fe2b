"""What became of corrections: the corrected rows of an evaluation apart from the others.

Nothing is measured here; an evaluation is read that has been made.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainer_backend.corrections.correction import Correction, question_key
from trainer_backend.corrections.kept import CORRECTIONS, corrections_in
from trainer_backend.data.store import StoredDataset, open_dataset
from trainer_backend.errors import UserError
from trainer_backend.evaluation.request import Evaluate
from trainer_backend.evaluation.results import (
    LOSSES,
    Asked,
    Evaluation,
    best_known,
    evaluations_of,
    keep,
)
from trainer_backend.runs import Run, open_run

# measures that say of an answer whether it is right; others say how near it is
CHECKED = ("exact_match", "contains", "json_valid", "json_fields", "label_f1", "tool_call_match")
NAMES = {"token_f1": "token F1", "chrf": "chrF", "rouge_l": "ROUGE-L"}  # of the others, in words


@dataclass(frozen=True)
class Part:
    """Some rows of an evaluation: their number, and the mean score of the tuned model.

    `before` is the mean score of the same rows before the corrections, None if it is not known.
    """

    rows: int
    score: float
    before: float | None = None


@dataclass(frozen=True)
class Outcome:
    """The corrected rows and the others, under the measure `main`."""

    main: str
    corrected: Part | None
    others: Part | None

    def sentence(self) -> str:
        """As in “Corrected rows: 5 of 5 right now; the others: 30 of 35, before 31 of 35.”"""
        parts = [
            (name, part)
            for name, part in (("Corrected rows", self.corrected), ("the others", self.others))
            if part
        ]
        said = "; ".join(f"{name}: {self._words(part)}" for name, part in parts)
        return f"{said[:1].upper()}{said[1:]}." if said else ""

    def _words(self, part: Part) -> str:
        is_corrected = part is self.corrected
        now = f"{self._score(part, part.score)}{' right now' if is_corrected else ''}"
        if self.main not in CHECKED:
            now = f"{self._score(part, part.score)}{' now' if is_corrected else ''}"
        before = "" if part.before is None else f", before {self._score(part, part.before)}"
        return now + before

    def _score(self, part: Part, score: float) -> str:
        if self.main in CHECKED:
            return f"{round(score * part.rows):,} of {part.rows:,}"
        return f"{NAMES.get(self.main, self.main)} {score:.2f}"


def outcome_of(
    evaluation: Evaluation,
    corrections: Iterable[Correction],
    before: Evaluation | None = None,
    asked: Evaluation | None = None,
) -> Outcome:
    """Split an evaluation into corrected rows and the others.

    `before` is the evaluation of the run that was corrected, and `asked` one on the corrections
    themselves: if given, the corrected rows are judged by the corrected answers.
    """
    keys = {one.key for one in corrections}
    main = evaluation.main
    mine, others = _parted(evaluation.examples, keys)
    if asked is not None:
        mine = asked.examples
    known = {_key(one): one for one in before.examples} if before else {}
    return Outcome(main, _part(main, mine, known), _part(main, others, known))


def _parted(examples: Sequence[Asked], keys: set[str]) -> tuple[list[Asked], list[Asked]]:
    mine = [one for one in examples if _key(one) in keys]
    return mine, [one for one in examples if _key(one) not in keys]


def _key(one: Asked) -> str:
    messages = one.messages or [{"role": "user", "content": one.prompt}]
    return question_key(messages, one.tools)


def _part(main: str, rows: Sequence[Asked], known: dict[str, Asked]) -> Part | None:
    scored = [one for one in rows if main in one.scores]
    if not scored:
        return None
    score = sum(_score(one, main) for one in scored) / len(scored)
    earlier = [known[_key(one)] for one in scored if _key(one) in known]
    earlier = [one for one in earlier if main in one.scores]
    whole = len(earlier) == len(scored)
    before = sum(_score(one, main) for one in earlier) / len(earlier) if whole else None
    return Part(len(scored), score, before)


def _score(one: Asked, main: str) -> float:
    """The tuned answer's score; where an answer is right or wrong, 1 or 0."""
    score = float(one.scores[main]["tuned"])
    return float(score >= 1) if main in CHECKED else score


def outcome_for(run: Run, evaluation: Evaluation | None = None) -> Outcome | None:
    """The outcome of a run that was trained on corrections; None for others.

    Without an `evaluation`, the one that stands for the run is read. Raises UserError if its data
    was deleted.
    """
    trained_on, evaluation = trained_corrections(run), evaluation or best_known(run)
    if trained_on is None or evaluation is None or evaluation.main in LOSSES:
        return None
    try:
        before = best_known(open_run(run.home, _corrected_run(run)))
    except UserError:  # it was deleted
        before = None
    asked = [
        one
        for one in evaluations_of(run)
        if one.dataset_id == trained_on.id and one.checkpoint == evaluation.checkpoint
    ]
    corrections = corrections_in(trained_on)
    return outcome_of(evaluation, corrections, before, asked[0] if asked else None)


def trained_corrections(run: Run) -> StoredDataset | None:
    """The corrections that a run was trained on; None for a run without any.

    Raises UserError if they or its data were deleted.
    """
    dataset = run.dataset()
    if not mixes_corrections(dataset):
        return None
    return open_dataset(run.home, str(dataset.source[CORRECTIONS]["dataset_id"]))


def mixes_corrections(dataset: StoredDataset) -> bool:
    """Whether a dataset is corrections mixed with old rows."""
    return "old" in (dataset.source.get(CORRECTIONS) or {})


def _corrected_run(run: Run) -> str:
    return str(run.dataset().source[CORRECTIONS]["run"])


def with_outcome(run: Run, evaluation: Evaluation) -> Evaluation:
    """The evaluation, which says what became of the corrections if the run was trained on some.

    Corrected rows that are held out have been trained on: their number becomes a warning. Raises
    UserError if the run's data was deleted.
    """
    outcome = outcome_for(run, evaluation) if evaluation.held_out else None
    if outcome is None:
        return evaluation
    trained_on = trained_corrections(run)
    keys = {one.key for one in corrections_in(trained_on)} if trained_on else set()
    count = len(_parted(evaluation.examples, keys)[0])
    warnings = list(evaluation.warnings)
    if count:
        rows = f"{count:,} of the held-out rows asked {'was' if count == 1 else 'were'}"
        warnings.append(
            f"{rows} corrected and trained on, so the numbers of all rows are too good by them; "
            "the sentence tells the corrected rows and the others apart."
        )
    said = f"{evaluation.sentence} {outcome.sentence()}".strip()
    return replace(evaluation, sentence=said, warnings=warnings)


def telling(evaluate: Evaluate) -> Evaluate:
    """`evaluate` with a result that also says, and keeps, what became of corrections."""

    def told(run: Run, **how: Any) -> Evaluation:
        found = evaluate(run, **how)
        said = with_outcome(run, found)
        if said is not found:
            keep(run, said)
        return said

    return told
