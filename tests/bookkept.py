"""A trainer of short rows with a small adapter or all weights, for the tests of its steps."""

from peft import LoraConfig

from trainer_backend import SFTConfig, SFTTrainer

ROWS = [
    {"prompt": f"Say {n}", "completion": "The capital of France is Paris. " * (1 + n % 3)}
    for n in range(16)
]


def trainer(folder, model, tokenizer, kind=SFTTrainer, lora=True, callbacks=(), **settings):
    usual = {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "seed": 1}
    quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "bf16": False}
    return kind(
        model,
        SFTConfig(str(folder), **{**usual, **quiet, "logging_steps": 1, **settings}),
        train_dataset=ROWS,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=2, target_modules="all-linear") if lora else None,
        callbacks=list(callbacks),
    )
