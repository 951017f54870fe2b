"""Starts, watches and ends the worker processes of runs. Torch-free."""

from trainer_backend.scheduling.launch import (
    Fleet,
    check_fleet,
    leave_to_others,
    machine_commands,
    processes_here,
    slurm_script,
)
from trainer_backend.scheduling.rank_watch import RankWatch
from trainer_backend.scheduling.run_queue import queue_again, settle_alone
from trainer_backend.scheduling.scheduler import Scheduler
from trainer_backend.scheduling.slurm import main
from trainer_backend.scheduling.watchdog import HangWatch
from trainer_backend.scheduling.worker_process import force_stop, settle, start_worker
