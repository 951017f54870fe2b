"""The LoRA settings of a recipe on a model: which layers and modules learn, and wrong names."""

import pytest
import torch
from peft import PeftModel

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.errors import UserError
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.training.adapters import add_adapter
from trainer_backend.training.lora.config import lora_config


def learning(model, **settings) -> set[str]:
    """Names of the weights that learn, shortened."""
    adapted = add_adapter(model, lora_config(Recipe(lora_r=2, **settings), model), [])
    names = {name for name, one in adapted.named_parameters() if one.requires_grad}
    return {name.removeprefix("base_model.model.").removeprefix("model.") for name in names}


def test_only_the_named_layers_get_an_adapter(make_model):
    names = learning(make_model(num_hidden_layers=4), layers_to_transform="1, 3")
    assert len(names) == 2 * 2 * 7 and {name[:9] for name in names} == {"layers.1.", "layers.3."}
    some = learning(make_model(), layers_to_transform="0", lora_target_modules="q_proj, up_proj")
    assert {".".join(name.split(".")[:4]) for name in some} == {
        "layers.0.self_attn.q_proj",
        "layers.0.mlp.up_proj",
    }


def test_a_layer_that_the_model_does_not_have_is_refused(tiny_model):
    with pytest.raises(UserError, match="no layer 9.*layers 0 to 1"):
        lora_config(Recipe(layers_to_transform="0, 9"), tiny_model)


def test_a_module_that_the_model_does_not_have_is_refused(tiny_model):
    with pytest.raises(UserError, match="embed_out.*embed_tokens, lm_head"):
        lora_config(Recipe(modules_to_save="embed_out"), tiny_model)


def test_modules_are_trained_whole(tiny_model):
    names = learning(tiny_model, modules_to_save="lm_head, norm", lora_target_modules="q_proj")
    whole = {name for name in names if "lora" not in name}
    assert whole == {
        "lm_head.modules_to_save.default.weight",
        "norm.modules_to_save.default.weight",
    }


def test_scale_direction_and_start_reach_peft(tiny_model):
    config = lora_config(
        Recipe(use_rslora=True, use_dora=True, init_lora_weights="pissa"), tiny_model
    )
    assert config.use_rslora and config.use_dora and config.init_lora_weights.startswith("pissa")
    plain = lora_config(Recipe(), tiny_model)
    assert not (plain.use_rslora or plain.use_dora) and plain.init_lora_weights is True
    assert lora_config(Recipe(adapter="full", use_dora=True), tiny_model) is None


@pytest.mark.parametrize("names", ["lm_head", "embed_tokens", "lm_head, embed_tokens"])
def test_tied_embeddings_are_trained_as_one_and_survive_a_merge(
    tmp_path, make_model, tokenizer, pairs, names
):
    base = make_model(tie_word_embeddings=True)
    base.save_pretrained(tmp_path / "base")
    load = type(base).from_pretrained
    model = load(tmp_path / "base")
    config = lora_config(Recipe(modules_to_save=names, lora_r=2), model)
    fixed = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "bf16": False}
    args = SFTConfig(str(tmp_path), max_steps=2, learning_rate=1e-2, **fixed)
    trainer = SFTTrainer(
        model, args, train_dataset=pairs, processing_class=tokenizer, peft_config=config
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "adapter"))
    ids = torch.arange(5, 20)[None]
    with torch.no_grad():
        wanted = trainer.model.cpu().eval()(input_ids=ids).logits
        loaded = PeftModel.from_pretrained(load(tmp_path / "base"), tmp_path / "adapter")
        loaded.merge_and_unload().save_pretrained(tmp_path / "merged")
        found = load(tmp_path / "merged").eval()(input_ids=ids).logits
        assert (wanted - base(input_ids=ids).logits).abs().max() > 0.1
    assert torch.allclose(found, wanted, atol=1e-4)
