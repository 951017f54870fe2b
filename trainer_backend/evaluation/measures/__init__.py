"""Measures of an answer against the expected one, intervals of their means, the verdict."""

from trainer_backend.evaluation.measures.choice import Choice, choose_measures
from trainer_backend.evaluation.measures.compared import Compared, compare_answers, loss_metrics
from trainer_backend.evaluation.measures.intervals import bootstrap, paired_interval, wilson
from trainer_backend.evaluation.measures.scores import (
    MEASURE_LABELS,
    MEASURE_MEANS,
    MEASURES,
    score_answer,
)
from trainer_backend.evaluation.measures.verdict import Learning, Verdict, verdict_of
