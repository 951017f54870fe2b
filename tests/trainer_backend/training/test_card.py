"""The README.md beside saved weights: base model, tags, settings; for the Hub and for people."""

from types import SimpleNamespace

import pytest
import yaml
from peft import LoraConfig

from trainer_backend import SFTConfig, SFTTrainer


@pytest.fixture
def build(tmp_path, tiny_model, tokenizer, pairs):
    def make(base="org/base-1b", adapter=True, **settings):
        tiny_model.config._name_or_path = base
        usual = {"max_steps": 2, "logging_steps": 1, "report_to": "none", "disable_tqdm": True}
        args = SFTConfig(str(tmp_path / "my-run"), **{**usual, "bf16": False, **settings})
        peft_config = LoraConfig(r=4, task_type="CAUSAL_LM") if adapter else None
        return SFTTrainer(
            tiny_model, args, train_dataset=pairs, processing_class=tokenizer,
            peft_config=peft_config,
        )  # fmt: skip

    return make


def read(folder) -> tuple[dict, str]:
    _, head, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head), body


def test_every_checkpoint_has_a_card(tmp_path, build):
    trainer = build(save_steps=1)
    trainer.train()
    head, body = read(tmp_path / "my-run" / "checkpoint-2")
    assert head["base_model"] == "org/base-1b" and head["library_name"] == "peft"
    assert head["tags"] == ["sft", "sft-studio"] and head["model_name"] == "my-run"
    assert "SFT Studio" in body and "| Method | LORA, rank 4 |" in body
    assert "| Rows | 5 |" in body and "| Loss at the end |" in body
    assert "folder = 'my-run'\nmodel = AutoPeftModelForCausalLM.from_pretrained(folder)\n" in body


def test_a_saved_model_has_one_without_folders_of_this_machine(tmp_path, build):
    trainer = build(base=str(tmp_path / "base"), adapter=False)
    trainer.save_model(str(tmp_path / "saved"))
    head, body = read(tmp_path / "saved")
    assert "base_model" not in head and head["library_name"] == "transformers"
    assert "model = AutoModelForCausalLM.from_pretrained(folder)" in body
    assert "Fine-tuned from base with" in body and "| Method | all weights |" in body
    assert str(tmp_path) not in (tmp_path / "saved" / "README.md").read_text()


def test_facts_and_tags_can_be_added(tmp_path, build):
    trainer = build()
    trainer.create_model_card(
        tags=["sft", "cooking"],
        model_name="Chef",
        language="en",
        license="mit",
        datasets=("me/a", "me/b"),
        metrics=None,
    )
    head, body = read(tmp_path / "my-run")
    assert head["tags"] == ["sft", "sft-studio", "cooking"]
    assert (head["model_name"], head["language"], head["license"]) == ("Chef", "en", "mit")
    assert head["datasets"] == ["me/a", "me/b"] and "metrics" not in head
    assert body.strip().startswith("# Chef")


def test_a_model_that_reads_images_has_code_with_a_processor(tmp_path, build):
    trainer = build(adapter=False)
    trainer.model.config.vision_config = {"hidden_size": 8}
    trainer.create_model_card()
    _, body = read(tmp_path / "my-run")
    assert "processor = AutoProcessor.from_pretrained(folder)" in body


def test_tags_are_on_the_model_and_pushed_with_it(tmp_path, build, monkeypatch):
    trainer = build()
    assert {"sft", "sft-studio"} <= set(trainer.model.model_tags)
    sent = {}
    trainer.hub_model_id = "me/my-run"
    hub = SimpleNamespace(upload_folder=lambda **given: sent.update(given))
    monkeypatch.setattr("transformers.trainer.hf_api", lambda: hub)
    trainer.push_to_hub()
    head, _ = read(tmp_path / "my-run")
    assert sent["folder_path"] == str(tmp_path / "my-run")
    assert head["model_name"] == "my-run" and {"sft", "sft-studio"} <= set(head["tags"])
