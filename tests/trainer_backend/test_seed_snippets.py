"""The calls of the document this project began with run as written, but for import and model id."""

import pytest
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainingArguments

from trainer_backend import SFTTrainer

EXAMPLES = [
    {"prompt": "What is the capital of France?", "response": "Paris."},
    {"prompt": "Who wrote Hamlet?", "response": "William Shakespeare."},
]


@pytest.fixture
def seed(tiny_model_dir, tmp_path, monkeypatch):
    """Steps 1 and 2 of the document: model, tokenizer, dataset, arguments."""
    monkeypatch.chdir(tmp_path)
    model_name = str(tiny_model_dir)
    tokenizer = AutoTokenizer.from_pretrained(model_name, use_fast=True)
    model = AutoModelForCausalLM.from_pretrained(model_name, torch_dtype="auto")
    dataset = Dataset.from_list(EXAMPLES)
    training_args = TrainingArguments(
        output_dir="./llama2-finetuned",
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        num_train_epochs=3,
        logging_steps=10,
        save_strategy="epoch",
        fp16=True,
        report_to="none",
    )
    return model, tokenizer, dataset, training_args


def test_full_fine_tuning_evaluation_and_saving(seed, tmp_path):
    model, tokenizer, dataset, training_args = seed
    trainer = SFTTrainer(
        model=model,
        tokenizer=tokenizer,
        train_dataset=dataset,
        dataset_text_field="prompt",
        max_seq_length=512,
        args=training_args,
    )
    trainer.train()

    prompt = "List three benefits of exercise."
    input_ids = tokenizer(prompt, return_tensors="pt").input_ids
    output = model.generate(input_ids, max_new_tokens=5)
    assert tokenizer.decode(output[0], skip_special_tokens=True).startswith(prompt)

    trainer.save_model("./llama2-alpaca-lora")
    tokenizer.save_pretrained("./llama2-alpaca-lora")
    AutoModelForCausalLM.from_pretrained("./llama2-alpaca-lora")
    assert (tmp_path / "llama2-finetuned" / "checkpoint-3").is_dir()
    assert trainer.args.max_length == 512


def test_lora(seed):
    model, tokenizer, dataset, training_args = seed
    lora_config = LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.05, bias="none", task_type="CAUSAL_LM"
    )
    trainer = SFTTrainer(
        model=model,
        tokenizer=tokenizer,
        train_dataset=dataset,
        dataset_text_field="prompt",
        peft_config=lora_config,
        max_seq_length=512,
        args=training_args,
    )
    trainer.train()
    trainer.save_model("./llama2-alpaca-lora")
    base = AutoModelForCausalLM.from_pretrained(model.config._name_or_path)
    loaded = PeftModel.from_pretrained(base, "./llama2-alpaca-lora")
    trained = [p for name, p in loaded.named_parameters() if "lora_B" in name]
    assert trained and all(p.abs().sum() > 0 for p in trained)  # B starts at zero


def test_prompt_and_response_are_formatted_and_only_the_response_is_learned(seed):
    model, tokenizer, dataset, training_args = seed
    trainer = SFTTrainer(
        model=model,
        tokenizer=tokenizer,
        train_dataset=dataset,
        dataset_text_field="prompt",
        args=training_args,
    )
    row = trainer.train_dataset[0]
    assert tokenizer.decode(row["input_ids"]) == (
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
        "<|im_start|>assistant\nParis.<|im_end|>\n"
    )
    learned = [token for token in row["labels"] if token != -100]
    assert tokenizer.decode(learned) == "Paris.<|im_end|>\n"


def test_a_base_model_without_template_learns_plain_text(seed):
    model, tokenizer, dataset, training_args = seed
    tokenizer.chat_template = None
    trainer = SFTTrainer(
        model=model,
        tokenizer=tokenizer,
        train_dataset=dataset,
        dataset_text_field="prompt",
        args=training_args,
    )
    row = trainer.train_dataset[1]
    assert tokenizer.decode(row["input_ids"]) == "Who wrote Hamlet?\nWilliam Shakespeare.<|im_end|>"
    learned = [token for token in row["labels"] if token != -100]
    assert tokenizer.decode(learned) == "William Shakespeare.<|im_end|>"
