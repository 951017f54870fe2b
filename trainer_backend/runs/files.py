"""The names of the files and folders in a run's folder; existing runs depend on them."""

SPEC = "spec.json"  # settings, dataset, base model and machine at the start
RECIPE = "recipe.yaml"
CHANGES = "changes.json"  # settings changed at a resume
NAME = "name.txt"
STATE = "state.json"
EVENTS = "events.jsonl"
LOG = "worker.log"
TIMING = "timing.json"  # seconds of each phase of the run, and the work done in them
WORKER = "worker.json"  # the worker's process identity and devices
HEARTBEAT = "heartbeat.json"
STALLED = "stalled.json"  # exists while the worker makes no progress
RANKS = "ranks"  # a folder with one file per training process
LOCK = "run.lock"  # held by the worker until it exits
STOP = "stop"  # exists after a stop was requested
INTERRUPTED = "go_on"  # exists if the run stops only because its machine does
START = "start"  # initial weights copied from another run
CHECKPOINTS = "checkpoints"
BEHIND = "behind.json"  # why a sweep stopped the run early
EVALUATIONS = "evaluations"  # a folder with one file per evaluation
SAMPLES = "samples.jsonl"  # answers to a few held-out prompts while the run trains
VOTES = "votes"  # a folder with one file per blind test
NOTES = "notes.json"  # the notes and tags of a person
ROWS = "rows"  # a large dataset's rows and tokens, while a worker trains on them
