"""What a driver and torch say of a card, in words."""

import pytest

from trainer_backend.nvidia import build_of, find_fault, in_use, others_memory, torch_cuda

CPU_BUILD = """
__version__ = '2.13.0+cpu'
debug = False
cuda: Optional[str] = None
git_version = '1'
hip: Optional[str] = None
"""


def test_the_build_of_torch_is_read_without_importing_it():
    assert build_of(CPU_BUILD) == ("2.13.0+cpu", "")
    for_cuda = CPU_BUILD.replace("cuda: Optional[str] = None", "cuda: Optional[str] = '13.0'")
    assert build_of(for_cuda) == ("2.13.0+cpu", "13.0")
    assert build_of("version = 3") is None
    import torch

    assert torch_cuda() == (torch.__version__, torch.version.cuda or "")


def test_memory_of_other_programs_is_named_unless_it_is_little():
    assert in_use(15.0, 3.0).startswith("Another program uses 12 GB of this card's 15 GB; 3 GB")
    assert in_use(80.0, 77.0) == in_use(8.0, 7.5) == ""


OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 14.58 GiB of "
    "which 17.56 MiB is free. Process 4711 has {} memory in use. Including non-PyTorch memory, "
    "this process has 2.20 GiB memory in use. Of the allocated memory 1.90 GiB is allocated by "
    "PyTorch."
)


def test_an_out_of_memory_error_names_who_else_has_the_card():
    assert others_memory(OUT_OF_MEMORY.format("12.35 GiB")) == (
        "another program uses 12 GB of this card"
    )
    assert others_memory(OUT_OF_MEMORY.format("300.00 MiB")) == ""
    assert others_memory("CUDA out of memory.") == ""


SAID = [
    ("CUDA error: device-side assert triggered", "token id or a label", "tokenizer"),
    ("CUDA error: unspecified launch failure", "crashed", "nvidia-smi"),
    ("CUDA error: an illegal memory access was encountered", "crashed", "nvidia-smi"),
    ("CUDA error: uncorrectable ECC error encountered", "memory of the GPU is faulty", "repair"),
    (
        "CUDA error: no kernel image is available for execution on the device",
        "too old, or too new",
        "torch build",
    ),
    (
        "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        "Another program holds the GPU",
        "End that program",
    ),
    ("CUDA error: GPU is lost", "The GPU is gone", "Restart the machine"),
    ("No CUDA GPUs are available", "not there any more", "CUDA_VISIBLE_DEVICES"),
    (
        "The NVIDIA driver on your system is too old (found version 11040).",
        "driver is too old",
        "Update",
    ),
    (
        "CUDA error: the launch timed out and was terminated",
        "drives a screen",
        "without a screen",
    ),
    ("NCCL error in: ProcessGroupNCCL.cpp:3690, unhandled system error", "NCCL", "NCCL_DEBUG"),
    ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`", "error", "Resume"),
    ("Failed to find C compiler. Please specify via CC environment variable", "Triton", "gcc"),
    ("CUDA error: unknown error", "The GPU reported an error", "Resume"),
]


@pytest.mark.parametrize(("text", "what", "fix"), SAID, ids=[one[0][:50] for one in SAID])
def test_what_cuda_says_has_a_meaning(text, what, fix):
    fault = find_fault(text + "\nCUDA kernel errors might be asynchronously reported")
    assert what in fault.what and fix in fault.fix


@pytest.mark.parametrize(
    "text", ["index 5 is out of bounds for dimension 0 with size 3", "Service Unavailable", ""]
)
def test_other_errors_are_not_of_a_gpu(text):
    assert find_fault(text) is None
