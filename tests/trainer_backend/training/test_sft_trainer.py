"""Training runs on a tiny model: what is learned, logged, saved, resumed; what a batch costs."""

import json

import pytest
import torch
from datasets import Dataset, DatasetDict, IterableDataset
from peft import LoraConfig, PeftModel

from trainer_backend import SFTConfig, SFTTrainer


def config(folder, **settings) -> SFTConfig:
    usual = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "max_steps": 4,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "bf16": False,
        "max_length": 64,
    }
    return SFTConfig(**{**usual, **settings})


def trainer(tmp_path, model, tokenizer, rows, **settings) -> SFTTrainer:
    names = (
        "eval_dataset",
        "peft_config",
        "compute_metrics",
        "formatting_func",
        "compute_loss_func",
    )
    given = {name: settings.pop(name) for name in names if name in settings}
    args = config(tmp_path, **settings)
    return SFTTrainer(
        model=model, args=args, train_dataset=rows, processing_class=tokenizer, **given
    )


def losses(run: SFTTrainer) -> list[float]:
    return [row["loss"] for row in run.state.log_history if "loss" in row]


@pytest.mark.parametrize("shape", ["list", "columns", "dataset", "iterable"])
def test_every_container_gives_the_same_training(tmp_path, tiny_model, tokenizer, pairs, shape):
    rows = {
        "list": pairs,
        "columns": {name: [row[name] for row in pairs] for name in pairs[0]},
        "dataset": Dataset.from_list(pairs),
        "iterable": IterableDataset.from_generator(lambda: iter(pairs)),
    }[shape]
    strategy = {"train_sampling_strategy": "sequential"}
    run = trainer(tmp_path, tiny_model, tokenizer, rows, max_steps=2, **strategy)
    run.train()
    assert losses(run) == pytest.approx([6.4612, 6.0886], abs=1e-3)


def test_everything_is_logged(tmp_path, tiny_model, tokenizer, pairs):
    run = trainer(tmp_path, tiny_model, tokenizer, pairs, eval_dataset=pairs[:2])
    result = run.train()
    first, last = run.state.log_history[0], run.state.log_history[-2]
    for name in ("loss", "grad_norm", "learning_rate", "epoch", "mean_token_accuracy", "entropy"):
        assert name in first
    assert last["num_tokens"] > first["num_tokens"] > 0
    assert last["loss"] < first["loss"] and result.metrics["train_loss"] > 0
    metrics = run.evaluate()
    assert {"eval_loss", "eval_mean_token_accuracy", "eval_entropy"} <= metrics.keys()
    assert 0 <= metrics["eval_mean_token_accuracy"] <= 1


@pytest.mark.parametrize("joined", [True, False], ids=["joined", "padded"])
def test_accumulation_is_the_same_as_one_big_batch(tmp_path, make_model, tokenizer, pairs, joined):
    rows = pairs[:4]
    settings = {"max_steps": 2, "padding_free": None if joined else False}
    big = trainer(
        tmp_path, make_model(), tokenizer, rows, per_device_train_batch_size=4, **settings
    )
    small = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    many = trainer(tmp_path, make_model(), tokenizer, rows, **small, **settings)
    for run in (big, many):
        run.train()
    assert losses(many) == pytest.approx(losses(big), abs=1e-5)
    assert many.evaluate(rows)["eval_loss"] == pytest.approx(
        big.evaluate(rows)["eval_loss"], abs=1e-5
    )


def test_packed_joined_and_padded_batches_cost_the_same(tmp_path, tiny_model, tokenizer, pairs):
    found = [
        trainer(tmp_path, tiny_model, tokenizer, pairs, **settings).evaluate(pairs)["eval_loss"]
        for settings in (
            {"packing": True, "max_length": 128},
            {"padding_free": False},
            {"per_device_eval_batch_size": 1},
            {"per_device_eval_batch_size": 3},
        )
    ]
    assert found == pytest.approx([found[0]] * 4, abs=1e-5)


def test_eval_as_a_dict_and_raw_rows(tmp_path, tiny_model, tokenizer, pairs):
    parts = {"short": pairs[:2], "long": Dataset.from_list(pairs[2:])}
    run = trainer(tmp_path, tiny_model, tokenizer, pairs, eval_dataset=parts)
    metrics = run.evaluate()
    assert {"eval_short_loss", "eval_long_loss"} <= metrics.keys()
    raw = run.evaluate(
        [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
    )
    assert raw["eval_loss"] > 0
    stream = IterableDataset.from_generator(lambda: iter(pairs[:2]))
    assert run.evaluate(stream)["eval_loss"] == pytest.approx(metrics["eval_short_loss"], abs=1e-5)


def test_compute_metrics_sees_logits_row_by_row(tmp_path, tiny_model, tokenizer, pairs):
    seen = {}

    def metrics(prediction):
        seen["logits"], seen["labels"] = prediction.predictions.shape, prediction.label_ids.shape
        hits = (prediction.predictions.argmax(-1)[:, :-1] == prediction.label_ids[:, 1:]).sum()
        return {"hits": float(hits)}

    run = trainer(
        tmp_path, tiny_model, tokenizer, pairs, eval_dataset=pairs, compute_metrics=metrics
    )
    found = run.evaluate()
    assert seen["logits"][:2] == seen["labels"] and seen["logits"][0] == len(pairs)
    assert "eval_hits" in found
    assert found["eval_loss"] == pytest.approx(
        trainer(tmp_path, tiny_model, tokenizer, pairs).evaluate(pairs)["eval_loss"], abs=1e-5
    )


def test_predictions_come_row_by_row_and_packed_eval_gives_way_to_metrics(
    tmp_path, tiny_model, tokenizer, pairs
):
    found = trainer(tmp_path, tiny_model, tokenizer, pairs).predict(pairs)
    assert found.predictions.shape[:2] == found.label_ids.shape
    assert len(found.predictions) == len(pairs)
    settings = {"packing": True, "compute_metrics": lambda prediction: {}, "eval_dataset": pairs}
    run = trainer(tmp_path, tiny_model, tokenizer, pairs, **settings)
    assert "seq_lengths" not in run.eval_dataset.column_names
    assert "seq_lengths" in run.train_dataset.column_names
    assert run.evaluate()["eval_loss"] == pytest.approx(found.metrics["test_loss"], abs=1e-5)


def test_own_loss_function_is_used(tmp_path, tiny_model, tokenizer, pairs):
    def loss(outputs, labels, num_items_in_batch=None):
        assert outputs.loss > 0  # the model's own is there to build on
        return outputs.logits.float().square().mean() * 0 + 7.0

    run = trainer(tmp_path, tiny_model, tokenizer, pairs, compute_loss_func=loss, max_steps=1)
    run.train()
    assert losses(run) == [7.0]


def test_tokens_the_model_does_not_have_are_refused(tmp_path, tiny_model, tokenizer):
    rows = [{"input_ids": [5, 6, 7]}, {"input_ids": [5, 400, 7]}]
    with pytest.raises(ValueError, match="Token 400 does not exist.*row 2"):
        trainer(tmp_path, tiny_model, tokenizer, rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"formatting_func": str, "completion_only_loss": True},
            "formatting_func makes plain text",
        ),
        ({"compute_loss_func": print, "loss_type": "dft"}, "both define the loss"),
        ({"packing": True, "max_length": None}, "packing=True needs max_length"),
        ({"padding_free": True}, "`max_length` is not enforced"),
        ({"router_aux_loss_coef": 0.1}, "not a Mixture-of-Experts model"),
    ],
)
def test_settings_that_contradict_are_refused(
    tmp_path, tiny_model, tokenizer, pairs, settings, message
):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, tiny_model, tokenizer, pairs, **settings)


def test_data_and_collators_that_do_not_fit_are_refused(tmp_path, tiny_model, tokenizer, pairs):
    with pytest.raises(ValueError, match="train_dataset"):
        trainer(tmp_path, tiny_model, tokenizer, None)
    splits = DatasetDict({"train": Dataset.from_list(pairs)})
    with pytest.raises(TypeError, match="Dataset.*DatasetDict.*dataset\\['train'\\]"):
        trainer(tmp_path, tiny_model, tokenizer, splits)
    args = config(tmp_path, padding_free=True, max_length=None)
    with pytest.raises(ValueError, match="cannot use a data_collator"):
        SFTTrainer(
            tiny_model, args, data_collator=list, train_dataset=pairs, processing_class=tokenizer
        )
    with pytest.raises(TypeError, match="tokenizer or a processor"):
        trainer(tmp_path, tiny_model, "gpt2", pairs)
    masked = Dataset.from_list([{"input_ids": [5, 6], "completion_mask": [0, 1]}])
    skipping = {"dataset_kwargs": {"skip_prepare_dataset": True}}
    with pytest.raises(ValueError, match="masks but no labels"):
        trainer(tmp_path, tiny_model, tokenizer, masked, **skipping)


def test_rows_cut_to_nothing_are_dropped_and_counted(
    tmp_path, tiny_model, tokenizer, pairs, caplog
):
    run = trainer(tmp_path, tiny_model, tokenizer, pairs, max_length=24)
    counts = run.data_counts["train"]
    assert counts.rows == len(pairs) and counts.cut > 0 and counts.dropped > 0
    assert len(run.train_dataset) == counts.rows - counts.dropped
    assert f"{counts.dropped} train rows were dropped" in caplog.text
    with pytest.raises(ValueError, match="No row of the train dataset"):
        trainer(tmp_path, tiny_model, tokenizer, pairs, max_length=3)


def test_resume_goes_on_where_it_stopped(tmp_path, make_model, tokenizer, pairs):
    settings = {
        "save_strategy": "steps",
        "save_steps": 2,
        "max_steps": 4,
        "lr_scheduler_type": "constant",
    }
    whole = trainer(tmp_path / "a", make_model(), tokenizer, pairs, **settings)
    whole.train()
    again = trainer(tmp_path / "b", make_model(seed=5), tokenizer, pairs, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert losses(again) == pytest.approx(losses(whole), abs=1e-5)
    assert again.state.log_history[-2]["num_tokens"] == whole.state.log_history[-2]["num_tokens"]


def test_lora_trains_and_saves_only_the_adapter(tmp_path, tiny_model, tokenizer, pairs):
    before = {name: p.clone() for name, p in tiny_model.named_parameters()}
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    run = trainer(
        tmp_path, tiny_model, tokenizer, pairs, peft_config=adapter, gradient_checkpointing=True
    )
    run.train()
    run.save_model(str(tmp_path / "adapter"))
    files = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert "adapter_model.safetensors" in files and "model.safetensors" not in files
    assert "chat_template.jinja" in files
    for name, p in run.model.cpu().get_base_model().named_parameters():
        if "lora" not in name:
            assert torch.equal(p, before[name.replace("base_layer.", "")])
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["r"] == 4


def test_an_adapter_is_continued(
    tmp_path, make_model, tiny_model, tiny_model_dir, tokenizer, pairs
):
    run = trainer(
        tmp_path, tiny_model, tokenizer, pairs, peft_config=LoraConfig(task_type="CAUSAL_LM")
    )
    run.train()
    run.save_model(str(tmp_path / "adapter"))
    loaded = PeftModel.from_pretrained(make_model(), tmp_path / "adapter", is_trainable=True)
    again = trainer(tmp_path, loaded, tokenizer, pairs, max_steps=1)
    again.train()
    assert losses(again)[0] < losses(run)[0]
    with pytest.raises(ValueError, match="already has an adapter"):
        trainer(tmp_path, loaded, tokenizer, pairs, peft_config=LoraConfig())


def test_a_model_by_id_is_loaded_in_float32(tmp_path, tiny_model_dir, pairs):
    run = trainer(tmp_path, str(tiny_model_dir), None, pairs)
    assert next(run.model.parameters()).dtype == torch.float32
    assert run.processing_class.chat_template
    half = {"model_init_kwargs": {"dtype": "bfloat16"}}
    assert trainer(tmp_path, str(tiny_model_dir), None, pairs, **half).model.dtype == torch.bfloat16


def test_the_model_still_generates_and_gives_logits(tmp_path, tiny_model, tokenizer, pairs):
    ids = torch.tensor([[5, 6, 7]])
    before = tiny_model(input_ids=ids, labels=ids)
    run = trainer(tmp_path, tiny_model, tokenizer, pairs)
    after = run.model.cpu().eval()(input_ids=ids, labels=ids)
    assert torch.allclose(before.logits, after.logits, atol=1e-6)
    assert torch.allclose(before.loss, after.loss)
    assert run.model.generate(ids, max_new_tokens=3, do_sample=False).shape[1] <= 6


@pytest.mark.parametrize("asked", [None, 0.5, 0.0])
def test_a_mixture_of_experts_is_balanced_in_training_and_evaluation(
    tmp_path, tokenizer, pairs, asked
):
    from transformers import MixtralConfig, MixtralForCausalLM

    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}
    config = MixtralConfig(vocab_size=400, router_aux_loss_coef=0.02, **small, **heads)
    run = trainer(
        tmp_path, MixtralForCausalLM(config), tokenizer, pairs, router_aux_loss_coef=asked
    )
    weight = 0.02 if asked is None else asked
    assert run.router_aux_loss_coef == weight and run.aux_loss_enabled is bool(weight)
    found = run.evaluate(pairs)
    plain = trainer(tmp_path, run.model, tokenizer, pairs, router_aux_loss_coef=0.0).evaluate(
        pairs
    )["eval_loss"]
    balance = weight * found.get("eval_aux_loss", 0.0)
    assert found["eval_loss"] == pytest.approx(plain + balance, abs=1e-4)
    assert ("eval_aux_loss" in found) is bool(weight)
