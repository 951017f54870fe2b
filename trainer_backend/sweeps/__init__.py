"""Groups of runs that try several values of a few settings."""

from trainer_backend.sweeps.best import Standing, best_of, best_runs, standing
from trainer_backend.sweeps.create import Plan, create_sweep, plan_sweep
from trainer_backend.sweeps.halving import HalvingWatch
from trainer_backend.sweeps.sweep import Sweep, group_of, list_sweeps, open_sweep
from trainer_backend.sweeps.tries import MOST_RUNS, parse_tries
