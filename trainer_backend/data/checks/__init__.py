"""Finds every problem of a dataset at once: each has a code, rows, advice and safe fixes."""

from trainer_backend.data.checks.checker import Checker
from trainer_backend.data.checks.content import (
    CHOICE_WORDS,
    KINDS,
    MOST_CHOICES,
    NO_STOP,
    content_findings,
    is_set,
    loses,
    lost_kinds,
    question,
)
from trainer_backend.data.checks.findings import (
    LEFT_OUT,
    SEVERITY_ORDER,
    Kind,
    problem_of,
    rows_text,
)
from trainer_backend.data.checks.near_duplicates import NEAR, splitmix64
from trainer_backend.data.checks.statistics import Lengths, Statistics, read_statistics
from trainer_backend.data.checks.texts import CONTROL_LETTER
