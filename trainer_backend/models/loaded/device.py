"""Whether torch of this process can use the GPU that the driver shows, in words where it cannot."""

import os

import torch

from trainer_backend.hardware import Hardware, hardware, hide_unusable_cards
from trainer_backend.nvidia import Fault, find_fault, in_use, too_old

ON_CPU = "This run trains on the CPU."


def settle_card() -> list[str]:
    """Sentences about this machine's GPU for a run that begins; [] where nothing is to be said.

    A card that cannot be used is hidden from this process, so that everything is chosen for the
    CPU. To be called before the process takes memory of the card.
    """
    if problem := hide_unusable_cards():
        return [f"{problem} {ON_CPU}"]
    machine = hardware()
    if machine.kind != "cuda":
        return []
    if fault := refused(machine):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return [f"{fault.sentence()} {ON_CPU}"]
    note = in_use(machine.memory_total, machine.memory_free)
    return [note] if note else []


def refused(machine: Hardware) -> Fault | None:
    """Why torch cannot use the card of a machine; None if it can."""
    if not torch.cuda.is_available():
        return _out_of_reach(machine.name, _torchs_words())
    capability = torch.cuda.get_device_capability()
    if older_than_all(capability, torch.cuda.get_arch_list()):
        return too_old(machine.name, capability[0] + capability[1] / 10, torch.__version__)
    return None


def _out_of_reach(name: str, said: str) -> Fault:
    known = find_fault(said)
    if known is None:
        why, fix = (
            f"torch cannot reach it ({said[:160]}).",
            "Compare “nvidia-smi” with torch's build.",
        )
    else:
        why, fix = known.what[0].lower() + known.what[1:], known.fix
    return Fault(f"{name} is not used: {why}", fix)


def _torchs_words() -> str:
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
    return "no reason given"


def older_than_all(capability: tuple[int, int], built_for: list[str]) -> bool:
    """Whether a card (8, 6) is older than every architecture ("sm_90", "compute_75") of a build."""
    numbers = [int("".join(filter(str.isdigit, one.rpartition("_")[2]))) for one in built_for]
    return bool(numbers) and 10 * capability[0] + capability[1] < min(numbers)
