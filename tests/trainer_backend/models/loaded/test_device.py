"""What a run is told of a card that torch cannot use. No GPU here: torch's answers are made up."""

import os

import pytest
import torch

from trainer_backend.hardware import Hardware
from trainer_backend.models.loaded import device
from trainer_backend.models.loaded.device import older_than_all, settle_card

CARD = Hardware("cuda", "Tesla T4", 1, 15.0, 14.9, 4, False)


@pytest.fixture
def card(monkeypatch):
    """Let the machine have a card of which torch says that it is there."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def put(machine=CARD, there=True, capability=(7, 5), built=("sm_75", "sm_90")):
        monkeypatch.setattr(device, "hardware", lambda: machine)
        monkeypatch.setattr(device, "hide_unusable_cards", lambda: machine.problem)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(built))

    return put


def test_of_a_card_that_works_nothing_is_said(card):
    card()
    assert settle_card() == [] and "CUDA_VISIBLE_DEVICES" not in os.environ
    card(Hardware("cpu", "CPU", 1, 15.0, 14.9, 4, False))
    assert settle_card() == []


def test_a_half_full_card_is_said(card):
    card(Hardware("cuda", "Tesla T4", 1, 15.0, 3.0, 4, False))
    assert settle_card()[0].startswith("Another program uses 12 GB")


def test_a_problem_of_the_machine_is_said_in_the_run(card):
    card(Hardware("cpu", "CPU", 1, 15.0, 14.9, 4, False, "Its driver is too old. Update it."))
    assert settle_card() == ["Its driver is too old. Update it. This run trains on the CPU."]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("The NVIDIA driver on your system is too old (found version 12020).", "driver is too old"),
        ("CUDA unknown error - this may be due to an incorrectly set up environment", "unknown"),
    ],
)
def test_a_card_that_torch_does_not_reach_is_said_and_left(card, monkeypatch, said, why):
    card(there=False)

    def init():
        raise RuntimeError(said)

    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    (note,) = settle_card()
    assert note.startswith("Tesla T4 is not used:") and why in note
    assert note.endswith("This run trains on the CPU.")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_a_card_without_code_in_this_build_is_too_old(card, monkeypatch):
    card(capability=(6, 1))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    (note,) = settle_card()
    assert "this card (compute capability 6.1) is too old for the installed torch" in note
    assert not older_than_all((9, 0), ["sm_75", "sm_90a", "compute_90"])
    assert not older_than_all((8, 6), []) and older_than_all((3, 7), ["sm_50"])
