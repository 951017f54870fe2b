"""Entry point of sbatch scripts, saved ones too: `python -m trainer_backend.slurm_job`."""

import sys

from trainer_backend.scheduling import main

if __name__ == "__main__":
    sys.exit(main())
