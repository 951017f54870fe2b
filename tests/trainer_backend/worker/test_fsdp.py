"""What one process saves of a sharded model."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from trainer_backend.worker.fsdp import load_sharded, whole_state


def adapted(model):
    return get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))


@pytest.fixture
def changed(make_model):
    """Makes a model whose weights are those of no seed."""

    def make(wrap, **settings):
        model = wrap(make_model(**settings))
        with torch.no_grad():
            for one in model.parameters():
                if one.requires_grad:
                    one.add_(0.5)
        return model

    return make


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("wrap", [adapted, lambda model: model])
def test_saved_weights_come_back_into_another_model(changed, make_model, tmp_path, wrap, tied):
    model = changed(wrap, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path, state_dict=whole_state(model))
    other = wrap(make_model(tie_word_embeddings=tied))
    load_sharded(other, str(tmp_path))
    assert all(
        torch.equal(one, two)
        for one, two in zip(model.parameters(), other.parameters(), strict=True)
    )


def test_an_adapter_is_saved_without_its_base(make_model):
    names = whole_state(adapted(make_model(tie_word_embeddings=True)))
    assert names and all("lora_" in name for name in names)


def test_an_adapter_with_a_weight_missing_is_not_taken(make_model, tmp_path):
    model = adapted(make_model())
    state = whole_state(model)
    state.pop(next(iter(state)))
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(RuntimeError, match="has no base_model"):
        load_sharded(model, str(tmp_path))
