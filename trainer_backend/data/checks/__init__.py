"""All problems of a dataset at once, each with a code, rows, advice and a safe fix."""

from trainer_backend.data.checks.checker import Checker
from trainer_backend.data.checks.findings import Kind, problem_of
from trainer_backend.data.checks.near_duplicates import NEAR
from trainer_backend.data.checks.statistics import Lengths, Statistics, read_statistics

__all__ = [
    "Checker",
    "Kind",
    "Lengths",
    "NEAR",
    "Statistics",
    "problem_of",
    "read_statistics",
]
