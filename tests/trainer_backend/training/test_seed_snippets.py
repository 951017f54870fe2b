"""The calls of the document this project began with run as written, but for import and model id."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    TrainingArguments,
)

from trainer_backend import SFTConfig, SFTTrainer

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


def test_arguments_that_only_older_trainers_took(seed):
    model, tokenizer, dataset, training_args = seed
    with pytest.warns(UserWarning, match="`num_of_sequences` has no meaning"):
        trainer = SFTTrainer(
            model=model, tokenizer=tokenizer, train_dataset=dataset, args=training_args,
            dataset_text_field="prompt", max_seq_length=64, packing=True, num_of_sequences=16,
        )  # fmt: skip
    assert "seq_lengths" in trainer.train_dataset.column_names
    assert SFTConfig("out", max_seq_length=33, report_to="none").max_length == 33


@pytest.mark.parametrize("field", ["text", "prompt"])
def test_a_formatting_func_takes_a_row_or_a_batch(seed, field):
    model, tokenizer, dataset, training_args = seed

    def of_a_row(row):
        return f"### Question: {row['prompt']}\n### Answer: {row['response']}"

    def of_a_batch(rows):
        texts = []
        for i in range(len(rows["prompt"])):
            texts.append(f"### Question: {rows['prompt'][i]}\n### Answer: {rows['response'][i]}")
        return texts

    seen = [
        SFTTrainer(
            model=model, tokenizer=tokenizer, train_dataset=dataset, args=training_args,
            formatting_func=function, dataset_text_field=field, max_seq_length=128,
        ).train_dataset["input_ids"][:]
        for function in (of_a_row, of_a_batch)
    ]  # fmt: skip
    assert seen[0] == seen[1]
    assert tokenizer.decode(seen[0][0]).startswith("### Question: What is the capital")


def test_a_formatting_func_that_fails_says_why(seed):
    model, tokenizer, dataset, training_args = seed
    with pytest.raises(KeyError, match="question"):
        SFTTrainer(
            model=model, tokenizer=tokenizer, train_dataset=dataset, args=training_args,
            formatting_func=lambda row: row["question"],
        )  # fmt: skip


def test_alpaca_as_it_is_published(seed):
    model, tokenizer, _, training_args = seed
    rows = {"instruction": "Name a city.", "input": "", "output": "Paris.", "text": "### All of it"}
    dataset = Dataset.from_list([rows] * 3)
    settings = {"model": model, "tokenizer": tokenizer, "args": training_args}
    pairs = SFTTrainer(train_dataset=dataset, dataset_text_field="prompt", **settings)
    learned = [label for label in pairs.train_dataset[0]["labels"] if label != -100]
    assert tokenizer.decode(learned) == "Paris.<|im_end|>\n"
    text = SFTTrainer(train_dataset=dataset, dataset_text_field="text", **settings)
    assert tokenizer.decode(text.train_dataset[0]["input_ids"]) == "### All of it<|im_end|>"


def test_int4_as_tutorials_write_it(seed, tiny_model_dir):
    """A quantised model, prepared and adapted by hand, then given to the trainer."""
    _, tokenizer, dataset, training_args = seed
    bnb_config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, quantization_config=bnb_config)
    model = prepare_model_for_kbit_training(model)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM"))
    trainer = SFTTrainer(
        model=model, tokenizer=tokenizer, train_dataset=dataset, args=training_args,
        dataset_text_field="prompt",
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 3
