"""Further arguments of SFTConfig: read from text, and refused with what to do instead."""

import pytest
from sft_arguments import sft_arguments, table_lines

from trainer_backend.errors import UserError
from trainer_backend.recipe.extra_arguments import OWNED, STAND_INS, parse_extra_arguments
from trainer_backend.recipe.recipe import SETTINGS
from trainer_backend.recipe.sft_arguments import ARGUMENTS


def test_the_table_is_that_of_the_class():
    assert sft_arguments() == ARGUMENTS, f"write:\n{table_lines()}"
    assert set(OWNED) <= set(ARGUMENTS) and set(STAND_INS) <= set(ARGUMENTS)
    assert set(STAND_INS.values()) <= set(SETTINGS) and not set(OWNED) & set(STAND_INS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# nothing\n", {}),
        ("adam_epsilon: 1e-6", {"adam_epsilon": 1e-6}),
        ("adam_epsilon: 1", {"adam_epsilon": 1.0}),
        (
            "lr_scheduler_kwargs: {num_cycles: 2}\ndata_seed: 7",
            {"lr_scheduler_kwargs": {"num_cycles": 2}, "data_seed": 7},
        ),
        ("lr_scheduler_kwargs: '{\"a\": 1}'", {"lr_scheduler_kwargs": {"a": 1}}),
        ("optim_args: a=1, b=2", {"optim_args": "a=1, b=2"}),
        ("optim_target_modules: [attn, mlp]", {"optim_target_modules": ["attn", "mlp"]}),
        ("data_seed: null", {"data_seed": None}),
        ("dataloader_num_workers: 2.0", {"dataloader_num_workers": 2}),
    ],
)
def test_values_come_in_the_arguments_own_type(text, expected):
    found = parse_extra_arguments(text)
    assert found == expected
    assert [type(value) for value in found.values()] == [type(one) for one in expected.values()]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("adam_eps: 1", "no argument “adam_eps”.*adam_epsilon"),
        ("qqq: 1", "no argument “qqq”.*names of SFTConfig"),
        ("seed: 1", "“seed” has a setting of its own.*“Seed” [(]seed[)]"),
        ("bf16: true", "has a setting of its own.*“Precision”"),
        ("fsdp: full_shard", "has a setting of its own.*“Distributed training”"),
        ("output_dir: /tmp/x", "cannot be set for a run.*its own folder"),
        ("push_to_hub: true", "cannot be set for a run.*Hub"),
        ("deepspeed: z.json", "cannot be set for a run.*devices"),
        ("adam_epsilon: small", "“adam_epsilon” cannot be 'small'.*a number"),
        ("adam_epsilon: .nan", "cannot be.*a number"),
        ("dataloader_num_workers: 1.5", "a whole number"),
        ("torch_compile: maybe", "true or false"),
        ("lr_scheduler_kwargs: [1]", "a mapping"),
        ("project: 2026-01-01", "a text"),
        ("adam_epsilon", "no list of names"),
        ("- adam_epsilon", "no list of names"),
        ("a: {", "not valid YAML.*line 1"),
        ("data_seed: 1\ndata_seed: 2", "set twice"),
        ("project: &a x\nrun_name: *a", "cannot repeat a part"),
        ("project: 2026-99-99", "not valid YAML"),
    ],
)
def test_what_cannot_be_is_told_with_the_way_out(text, said):
    with pytest.raises(UserError) as refused:
        parse_extra_arguments(text)
    error = refused.value
    assert "Other" not in error.what and "Further arguments" in error.where
    import re

    assert re.search(said, f"{error.what} {error.where} {error.fix}", re.DOTALL)
