"""Collective decisions of the training processes (no-ops when there is only one)."""

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

import psutil
import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import DistributedType, broadcast_object_list
from safetensors import SafetensorError

from trainer_backend.disk import is_disk_full
from trainer_backend.processes import rank_and_size
from trainer_backend.training.precision import accelerator

# The first process may download and read for hours while the others wait. Dead processes are
# noticed within seconds elsewhere, not by this limit.
PATIENCE = timedelta(days=7)
T = TypeVar("T")


def join() -> None:
    """Form the process group, if there are several processes; blocks until all have joined."""
    if rank_and_size()[1] > 1:
        _choose_interface()
        PartialState(cpu=accelerator() == "cpu", timeout=PATIENCE)


def _choose_interface() -> None:
    """Let gloo use the network interface that leads to the first machine.

    Its default is the interface of this machine's host name, often the loopback.
    """
    several = os.environ.get("WORLD_SIZE") != os.environ.get("LOCAL_WORLD_SIZE")
    if not several or "GLOO_SOCKET_IFNAME" in os.environ:
        return
    first = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    with suppress(OSError):
        found = socket.getaddrinfo(*first, type=socket.SOCK_DGRAM)[0]
        with socket.socket(found[0], socket.SOCK_DGRAM) as probe:
            probe.connect(found[4])  # UDP: sends nothing, only looks up the route
            own = probe.getsockname()[0]
        for name, addresses in psutil.net_if_addrs().items():
            if own in [one.address for one in addresses]:
                os.environ["GLOO_SOCKET_IFNAME"] = name


def first_decides(decide: Callable[[], T]) -> T:
    """Run `decide` on the first process and return its answer (picklable) on all."""
    if not dist.is_initialized():
        return decide()
    answer = [decide() if dist.get_rank() == 0 else None]
    return broadcast_object_list(answer)[0]


def any_process(flag: bool) -> bool:
    """Whether the flag is set on any process; all get the same answer."""
    if not dist.is_initialized():
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    seen = torch.tensor(int(flag), device=device)
    dist.all_reduce(seen, dist.ReduceOp.MAX)
    return bool(seen)


def first_goes_ahead(work: Callable[[], T]) -> T:
    """Run `work` on the first process of each machine, then on its others, which find it done."""
    if not dist.is_initialized():
        return work()
    with PartialState().local_main_process_first():
        return work()


def first_writes(write: Callable[[], None]) -> None:
    """Run `write` on the first process; its error is raised there, an OSError on the others.

    Without that, the others would wait in the next collective call for a process that failed.
    """
    failed: list[Exception] = []

    def attempt() -> int | None:
        try:
            write()
        except (OSError, RuntimeError, SafetensorError) as error:
            failed.append(error)
            return errno.ENOSPC if is_disk_full(error) else errno.EIO
        return None

    number = first_decides(attempt)
    if number is not None:
        raise failed[0] if failed else OSError(number, "The first process could not save.")


def let_cpus_shard() -> None:
    """Make accelerate accept FSDP on CPUs, which it allows on GPUs only.

    Call it after TrainingArguments (which reset accelerate's state) and before the Accelerator is
    made. FSDP itself runs over gloo as it does over nccl.
    """
    state = PartialState()
    if state.distributed_type == DistributedType.MULTI_CPU:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
