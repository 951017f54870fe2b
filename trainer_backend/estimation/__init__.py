"""What a run will take before anything is loaded: memory, steps, time, download and disk."""

from trainer_backend.estimation.estimate import NO_FIX, Estimate, estimate
from trainer_backend.estimation.range import Range
