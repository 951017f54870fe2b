"""SFTConfig: defaults, older spellings, and what it refuses."""

import pickle
import warnings

import pytest
import torch
from transformers import TrainingArguments

from trainer_backend import SFTConfig
from trainer_backend.training import precision
from trainer_backend.training.sft_config import as_sft_config, settle_devices


def test_defaults_of_fine_tuning(tmp_path):
    args = SFTConfig(str(tmp_path))
    assert (args.learning_rate, args.logging_steps, args.max_length) == (2e-5, 10, 1024)
    assert args.packing_strategy == "bfd" and args.loss_type == "nll"
    assert args.padding_free is None and args.completion_only_loss is None
    assert not args.gradient_checkpointing


def test_plain_arguments_and_older_names_are_taken(tmp_path):
    plain = TrainingArguments(str(tmp_path), learning_rate=3e-4, num_train_epochs=2, seed=7)
    args = as_sft_config(plain, "m", max_length=512, packing=True, dataset_text_field=None)
    assert (args.learning_rate, args.num_train_epochs, args.seed) == (3e-4, 2, 7)
    assert (args.max_length, args.packing, args.dataset_text_field) == (512, True, "text")
    assert as_sft_config(None, "llama").output_dir == "llama-SFT"
    assert as_sft_config(args, "m") is args
    again = as_sft_config(args, "m", max_length=64)
    assert (again.max_length, again.packing, again.seed) == (64, True, 7)


def test_command_line_spellings(tmp_path):
    args = SFTConfig(
        str(tmp_path), model_init_kwargs='{"dtype": "bfloat16"}', pad_to_multiple_of="8"
    )
    assert args.model_init_kwargs == {"dtype": "bfloat16"}
    assert args.pad_to_multiple_of == 8
    assert SFTConfig(str(tmp_path), pad_to_multiple_of="none").pad_to_multiple_of is None


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("loss_type", "chunked_nll", "nll"),
        ("packing_strategy", "bfd-requeue", "bfd_split"),
        ("packing_strategy", "ffd", "bfd"),
    ],
)
def test_what_was_renamed_is_taken_with_a_warning(tmp_path, name, old, new):
    with pytest.warns(FutureWarning, match=f"`{name}='{old}'` is deprecated"):
        args = SFTConfig(str(tmp_path), **{name: old})
    assert getattr(args, name) == new


def test_one_process_trains_on_one_of_several_gpus(tmp_path):
    args = SFTConfig(str(tmp_path))
    args._n_gpu = 4
    with pytest.warns(UserWarning, match="4 GPUs are visible.*torchrun"):
        settle_devices(args, reads_images=False)
    assert args.n_gpu == 1 and args.ddp_find_unused_parameters is None


def test_shares_in_half_precision_are_added_up_in_float32(tmp_path):
    for half, expected in ((True, torch.bfloat16), (False, None)):
        args = SFTConfig(str(tmp_path), fsdp=True)
        args.bf16 = half
        settle_devices(args, reads_images=False)
        policy = args.fsdp_plugin_args.get("mixed_precision_policy")
        assert (policy and policy.param_dtype) == expected
        assert policy is None or (policy.reduce_dtype, policy.output_dtype) == (torch.float32, None)


@pytest.mark.parametrize(("reentrant", "found"), [(False, True), (True, None)])
def test_a_vision_tower_may_stay_without_gradient(tmp_path, reentrant, found):
    args = SFTConfig(str(tmp_path), gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    settle_devices(args, reads_images=True)
    assert args.ddp_find_unused_parameters is found


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_type": "focal"}, "loss_type='focal'"),
        ({"packing_strategy": "best"}, "packing_strategy='best'"),
        ({"truncation_mode": "middle"}, "truncation_mode='middle'"),
        ({"max_length": 0}, "max_length must be at least 1"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        SFTConfig(str(tmp_path), **settings)


def test_fp16_without_a_gpu_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer_backend.training.sft_config.accelerator", lambda: "cpu")
    with pytest.warns(UserWarning, match="fp16 needs a GPU"):
        args = SFTConfig(str(tmp_path), fp16=True)
    assert not args.fp16 and not args.bf16
    with pytest.warns(UserWarning, match="fp16 needs a GPU"):
        converted = as_sft_config(TrainingArguments(str(tmp_path), fp16=True), "m")
    assert not converted.fp16


@pytest.mark.parametrize("possible", [True, False])
def test_bf16_on_a_cpu_is_used_if_the_cpu_has_it(monkeypatch, possible):
    monkeypatch.setattr(precision, "bf16_possible", lambda device: possible)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert precision.resolve_precision(True, False, "cpu") == (possible, False)
    assert bool(caught) is not possible


@pytest.mark.parametrize(("times", "chosen"), [((1.0, 0.5), True), ((1.0, 0.9), False)])
def test_bf16_is_chosen_by_measurement(tmp_path, monkeypatch, times, chosen):
    monkeypatch.setattr(precision, "bf16_possible", lambda device: True)
    measured = iter(times)
    monkeypatch.setattr(precision, "_seconds", lambda dtype: next(measured))
    precision.bf16_pays_on_cpu.cache_clear()
    monkeypatch.setattr("trainer_backend.training.sft_config.accelerator", lambda: "cpu")
    args = SFTConfig(str(tmp_path))
    assert args.bf16 is None
    monkeypatch.setattr(precision, "_LARGE", 1)
    precision.settle_bf16(args, torch.nn.Linear(2, 2))
    assert args.bf16 is chosen
    assert (args.mixed_precision == "bf16") is chosen
    precision.bf16_pays_on_cpu.cache_clear()


def test_a_small_model_stays_in_float32(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer_backend.training.sft_config.accelerator", lambda: "cpu")
    args = SFTConfig(str(tmp_path))
    precision.settle_bf16(args, torch.nn.Linear(2, 2))
    assert args.bf16 is False


def test_frozen_weights_of_an_adapted_model_are_kept_in_bf16():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[0].requires_grad_(False)
    precision.halve_frozen(model)
    assert [p.dtype for p in model.parameters()] == [torch.bfloat16] * 2 + [torch.float32] * 2


def test_bf16_asked_for_on_a_cpu_trains_there(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer_backend.training.sft_config.accelerator", lambda: "cpu")
    monkeypatch.setattr(precision, "bf16_possible", lambda device: True)
    args = SFTConfig(str(tmp_path), bf16=True)
    assert args.bf16 and args.device.type == "cpu"


def test_saved_arguments_of_an_earlier_version_still_load():
    new, old = b"trainer_backend.training.sft_config", b"trainer_backend.sft_config"
    stored = pickle.dumps(SFTConfig("out", packing=True, report_to=[]), protocol=2)
    assert stored.count(new) == 1  # protocol 2 names the class's module in plain text
    loaded = pickle.loads(stored.replace(new, old))
    assert type(loaded) is SFTConfig and loaded.packing


@pytest.mark.parametrize(
    ("bf16", "fp16", "wanted", "said"),
    [
        (None, False, (False, True), True),
        (True, False, (False, True), True),
        (False, False, (False, False), False),
        (False, True, (False, True), False),
        (None, True, (False, True), False),
    ],
)
def test_a_card_without_bf16_trains_in_fp16_and_says_so(monkeypatch, bf16, fp16, wanted, said):
    monkeypatch.setattr(precision, "bf16_possible", lambda device: device != "cuda")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert precision.resolve_precision(bf16, fp16, "cuda") == wanted
    assert [str(one.message) for one in caught] == (
        ["This GPU has no bf16; training in fp16 with a gradient scaler."] if said else []
    )
    monkeypatch.setattr(precision, "bf16_possible", lambda device: True)
    assert precision.resolve_precision(None, False, "cuda") == (True, False)
