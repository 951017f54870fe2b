"""Answers that a person corrected, as rows of a dataset to train on."""

from trainer_backend.corrections.correction import Correction, Wrong, read_calls
from trainer_backend.corrections.kept import Kept, keep_correction, kept_for, take_back
from trainer_backend.corrections.outcome import (
    Outcome,
    mixes_corrections,
    outcome_for,
    telling,
    trained_corrections,
    with_outcome,
)
from trainer_backend.corrections.replay import ENOUGH, Replay, plan_replay, train_on_corrections
