"""The names of the files and folders in a run's folder: spelled here and nowhere else.

What each one holds is said in docs/runs.md; older runs have the same names.
"""

SPEC = "spec.json"  # what was asked for and begun with
RECIPE = "recipe.yaml"
CHANGES = "changes.json"  # settings changed at a resume
NAME = "name.txt"
STATE = "state.json"
EVENTS = "events.jsonl"
LOG = "worker.log"
WORKER = "worker.json"  # which process the worker is, and its devices
HEARTBEAT = "heartbeat.json"
STALLED = "stalled.json"  # there while the worker makes no progress
RANKS = "ranks"  # one file for each training process
LOCK = "run.lock"  # held as long as the worker lives
STOP = "stop"  # there once a stop was asked for
GO_ON = "go_on"  # there when only its machine's stop ends the run
START = "start"  # weights the run begins with, if they are another run's
CHECKPOINTS = "checkpoints"
