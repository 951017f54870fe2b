"""Names the CUDA device that tests would run on: `python -m tests.gpu_card`; 2 if there is none."""

import sys

import torch


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def main(arguments: list[str]) -> int:
    """Print the card, its memory, the driver's torch build; 2 without a card, 0 in a dry run."""
    if "cpu" in arguments or "--device=cpu" in arguments:
        say("Dry run on the CPU: it proves the code of the tests, and nothing of a GPU.")
        return 0
    if not torch.cuda.is_available():
        say(
            "No CUDA device is there for this torch "
            f"({torch.__version__}), so nothing was tested.\n"
            "Where: this machine; “nvidia-smi” shows whether it has a card and a driver.\n"
            "What to do: run this on a machine with an NVIDIA GPU, or try the tests' own code with "
            'make test-gpu ARGS="--device cpu".'
        )
        return 2
    card = torch.cuda.get_device_properties(0)
    say(
        f"{card.name}, {card.total_memory / 2**30:.0f} GB, compute capability "
        f"{card.major}.{card.minor}; torch {torch.__version__}, CUDA {torch.version.cuda}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
