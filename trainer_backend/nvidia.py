"""NVIDIA cards without torch: what the driver tells of them, and whether the installed torch can
use them, in words; what their errors mean.

Which device trains is not decided here.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

# The oldest driver of each CUDA major version (CUDA's minor version compatibility), and the least
# compute capability that its compiler still builds for: a card below it has no code in any build.
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
LEAST_CAPABILITY = {11: 3.5, 12: 5.0, 13: 7.5}
QUERY = "name,memory.total,memory.free,compute_cap,driver_version"
INSTALL = "Install a torch build for it (https://pytorch.org/get-started), or train on the CPU."


@dataclass(frozen=True)
class Card:
    """A device as the driver describes it; memory in GiB."""

    name: str
    memory_total: float
    memory_free: float
    capability: float
    driver: str


@dataclass(frozen=True)
class Fault:
    """Why a GPU cannot be used or stopped working, and what to do about it."""

    what: str
    fix: str

    def sentence(self) -> str:
        """Both as running text."""
        return f"{self.what} {self.fix}"


def cards() -> tuple[list[Card], Fault | None]:
    """The visible cards that the installed torch can use, and why those that are there cannot be.

    ([], None) on a machine without a card.
    """
    tool = shutil.which("nvidia-smi")
    if not tool or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return [], None
    try:
        done = subprocess.run(
            [tool, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except subprocess.TimeoutExpired:
        return [], _silent_driver("it did not answer within 5 seconds")
    except OSError as error:
        return [], _silent_driver(str(error))
    found = _visible(_parsed(done.stdout))
    if not found:
        said = (done.stdout + done.stderr).strip()
        silent = not said or "No devices were found" in said or not has_card()
        return [], None if silent else _from_driver(said)
    fault = unusable(found[0], torch_cuda())
    return ([], fault) if fault else (found, None)


def has_card(bus: Path = Path("/sys/bus/pci/devices")) -> bool:
    """Whether a device of NVIDIA's may be on the bus: False only where all are others'."""
    vendors = [one.read_text().strip() for one in bus.glob("*/vendor")]
    return not vendors or "0x10de" in vendors


def _parsed(text: str) -> list[Card]:
    rows = [line.split(", ") for line in text.splitlines() if line.count(", ") == 4]
    return [
        Card(name, _number(total) / 1024, _number(free) / 1024, _number(capability), driver)
        for name, total, free, capability, driver in rows
        if total[:1].isdigit()
    ]


def _number(text: str) -> float:
    """A number of the driver; 0 for “[N/A]”, which old cards answer."""
    return float(text) if re.fullmatch(r"[\d.]+", text.strip()) else 0.0


def _visible(found: list[Card]) -> list[Card]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not visible or not all(part.strip().isdigit() for part in visible.split(",")):
        return found
    return [found[int(part)] for part in visible.split(",") if int(part) < len(found)]


@lru_cache(maxsize=1)
def torch_cuda() -> tuple[str, str] | None:
    """Version of the installed torch and of the CUDA it was built for ("": for none).

    Read from its version file, since importing torch takes seconds; None if that says nothing.
    """
    spec = find_spec("torch")
    file = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    return build_of(file.read_text(encoding="utf-8")) if file and file.exists() else None


def build_of(text: str) -> tuple[str, str] | None:
    """(torch version, CUDA version) of the text of torch's version file."""
    version = re.search(r"^__version__\b[^=]*=\s*['\"]([^'\"]+)", text, re.MULTILINE)
    cuda = re.search(r"^cuda\b[^=]*=\s*(?:None|['\"]([\d.]+))", text, re.MULTILINE)
    return (version[1], cuda[1] or "") if version and cuda else None


def unusable(card: Card, build: tuple[str, str] | None) -> Fault | None:
    """Why a torch build (its version, its CUDA version) cannot use the card; None if it may."""
    if build is None:
        return None
    version, cuda = build
    if not cuda:
        return Fault(
            f"{card.name} is not used: the installed torch ({version}) was built without CUDA.",
            INSTALL,
        )
    major = int(cuda.partition(".")[0])
    driver, oldest = _number(card.driver.partition(".")[0]), OLDEST_DRIVER.get(major, 0)
    # data-center cards may be given newer libraries beside an old driver (CUDA's “compat” package)
    helped = "compat" in os.environ.get("LD_LIBRARY_PATH", "")
    if 0 < driver < oldest and not helped:
        return Fault(
            f"{card.name} is not used: its driver ({card.driver}) is too old for the installed "
            f"torch {version}, which needs {oldest} or newer (CUDA {cuda}).",
            "Update the NVIDIA driver, or install a torch build for an older CUDA.",
        )
    if 0 < card.capability < LEAST_CAPABILITY.get(major, 0.0):
        return too_old(card.name, card.capability, version)
    return None


def too_old(name: str, capability: float, version: str) -> Fault:
    """A card without code in this torch build."""
    return Fault(
        f"{name} is not used: this card (compute capability {capability}) is too old for the "
        f"installed torch {version}.",
        INSTALL,
    )


def _silent_driver(why: str) -> Fault:
    return Fault(
        f"The NVIDIA driver cannot be asked about its cards: {why}.",
        "Run “nvidia-smi” in a terminal; when it hangs or fails, restart the machine.",
    )


def _from_driver(said: str) -> Fault:
    """The words of a driver that found no card."""
    return find_fault(said) or _silent_driver(said.splitlines()[0][:160].rstrip("."))


def in_use(memory_total: float, memory_free: float) -> str:
    """A sentence on memory of a card that others hold (GiB), before this process takes any.

    Empty when it is little: a driver keeps up to a few percent for itself.
    """
    taken = memory_total - memory_free
    if taken < max(1.0, 0.05 * memory_total):
        return ""
    return (
        f"Another program uses {taken:.0f} GB of this card's {memory_total:.0f} GB; "
        f"{memory_free:.0f} GB are free. If memory runs out, end that program first."
    )


def others_memory(error: str) -> str:
    """What torch's out-of-memory error says of other programs on the card; empty without any."""
    sizes = re.findall(r"Process \d+ has ([\d.]+) ([KMG])iB memory in use", error)
    taken = sum(float(size) * {"K": 2**-20, "M": 2**-10, "G": 1.0}[unit] for size, unit in sizes)
    return f"another program uses {taken:.0f} GB of this card" if taken >= 1 else ""


AGAIN = "Resume to go on from the last checkpoint"
HEALTH = f"{AGAIN}. If it happens again, look at the card with “nvidia-smi”, and update its driver"
# What torch, CUDA and the driver say, in lower case, and what it means.
FAULTS = (
    (
        ("device-side assert", "indexselectlargeindex"),
        "The GPU stopped: a number was outside a table of the model (device-side assert), usually "
        "a token id or a label that the model does not have.",
        "Choose a model folder whose tokenizer belongs to it. Training once on the CPU names the "
        "place (CUDA_VISIBLE_DEVICES= in front of the command).",
    ),
    (
        ("uncorrectable ecc", "ecc error"),
        "The memory of the GPU is faulty (uncorrectable ECC error).",
        "Restart the machine, then resume. If it comes back (“nvidia-smi -q -d ECC”), use another "
        "card: this one needs repair.",
    ),
    (
        ("gpu is lost", "fallen off the bus", "unable to determine the device handle"),
        "The GPU is gone: the machine no longer reaches it (it “fell off the bus”).",
        "Restart the machine, then resume. Heat, power supply or slot are the usual causes.",
    ),
    (
        ("no kernel image is available",),
        "This card is too old, or too new, for the installed torch: it has no code for it.",
        INSTALL,
    ),
    (
        ("driver/library version mismatch", "system has unsupported display driver"),
        "The NVIDIA driver was updated while the machine ran: its parts do not fit together.",
        "Restart the machine.",
    ),
    (
        ("driver version is insufficient", "nvidia driver on your system is too old"),
        "The NVIDIA driver is too old for the installed torch.",
        "Update the NVIDIA driver, or install a torch build for an older CUDA.",
    ),
    (
        ("couldn't communicate with the nvidia driver", "no nvidia driver on your system"),
        "The NVIDIA driver does not run, so its card cannot be used.",
        "Install or restart the driver (after a kernel update it has to be built again), and "
        "restart the machine.",
    ),
    (
        ("busy or unavailable",),
        "Another program holds the GPU for itself alone (exclusive mode).",
        "End that program (“nvidia-smi” lists it), then resume.",
    ),
    (
        ("no cuda gpus are available", "no cuda-capable device", "invalid device ordinal"),
        "The GPU that the run was given is not there any more.",
        "Look at “nvidia-smi” and at CUDA_VISIBLE_DEVICES, then resume.",
    ),
    (
        ("the launch timed out",),
        "A step took longer than this card may compute at a time, since it also drives a screen.",
        "Use a card without a screen, or a smaller batch, then resume.",
    ),
    (
        ("nccl error", "ncclsystemerror", "ncclunhandledcudaerror", "ncclremoteerror"),
        "The GPUs could not talk to each other (NCCL).",
        f"{AGAIN}; the log below names the cause (NCCL_DEBUG=INFO says more).",
    ),
    (
        ("failed to find c compiler", "working triton", "ptxas", "triton.compiler"),
        "Triton, which builds programs for the GPU, cannot build one on this machine.",
        "Install a C compiler (gcc) and a triton that fits torch, then resume.",
    ),
    (
        ("illegal memory access", "unspecified launch failure", "misaligned address"),
        "A program on the GPU crashed. The fault is in a package, the driver or the card, not in "
        "the data.",
        f"{HEALTH}.",
    ),
    (
        ("cuda error", "cublas_status", "cudnn_status", "cuda driver error"),
        "The GPU reported an error.",
        f"{HEALTH}.",
    ),
)


def find_fault(text: str) -> Fault | None:
    """What a message of torch, CUDA or the driver means; None when it is not about a GPU."""
    words = text.lower()
    for signs, what, fix in FAULTS:
        if any(sign in words for sign in signs):
            return Fault(what, fix)
    return None
