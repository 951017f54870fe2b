"""What each setting of a recipe means: its sentence, its choices, its limits.

The settings themselves and their defaults are in recipe.py.
"""

HELP = {
    "base_model": "The model to start from: a Hub id (owner/name) or a folder on this machine.",
    "adapter": (
        "LoRA trains a small add-on (fast, little memory). QLoRA also shrinks the base model. "
        "Full trains every weight."
    ),
    "precision": (
        "The number format of the base model. Automatic picks what this machine does well."
    ),
    "lora_r": "Size of the add-on. Higher learns more and takes more memory; 8 to 32 is usual.",
    "lora_alpha": "How strongly the add-on counts. Twice the size is a good start.",
    "lora_dropout": (
        "Share of the add-on switched off at random while training; a little helps tiny datasets."
    ),
    "lora_target_modules": (
        "Which layers get the add-on. “all-linear” is best; or layer names with commas."
    ),
    "learning_rate": (
        "How big each correction is. “auto” picks 2e-4 for LoRA and 2e-5 for full training."
    ),
    "num_train_epochs": "How many times the model sees all of your data.",
    "max_steps": "Stop after this many steps, whatever the epochs say. -1 means: go by epochs.",
    "per_device_train_batch_size": "Examples looked at together. Halve it when memory runs out.",
    "gradient_accumulation_steps": (
        "Batches added up before each correction: a larger batch without more memory."
    ),
    "optim": "AdamW is the standard. 8-bit AdamW and Adafactor save memory.",
    "lr_scheduler_type": "How the learning rate falls during the run.",
    "warmup_steps": "A gentle start: below 1 a share of the run, else a number of steps.",
    "weight_decay": "Pulls weights towards zero a little; guards against learning by heart.",
    "max_grad_norm": "Cuts off corrections that are too big. 1.0 is a safe value.",
    "gradient_checkpointing": (
        "Saves memory by computing some things twice (about a quarter slower)."
    ),
    "max_length": "Longest example in tokens (about ¾ of a word each). Longer ones are cut.",
    "packing": (
        "Join short examples into full rows. Faster when examples are much shorter than the "
        "longest."
    ),
    "assistant_only_loss": (
        "On: the model learns to write the answers. Off: it also learns to write the prompts."
    ),
    "system_prompt": "Put in front of every example that has no system message of its own.",
    "eval_fraction": "Share of the rows kept aside to measure progress honestly.",
    "eval_steps": (
        "How often to measure: below 1 a share of the run, else every so many steps; 0 only at "
        "the end."
    ),
    "save_steps": (
        "How often to save a checkpoint: below 1 a share of the run, else every so many steps; 0 "
        "only at the end."
    ),
    "logging_steps": "Steps between two points of the live chart.",
    "report_to": "Also send the curves to TensorBoard, Weights & Biases or trackio.",
    "seed": "The same seed gives the same shuffling and the same start.",
    "answer_check_rows": (
        "After training, answer this many held-out rows with the base and the tuned model and "
        "compare."
    ),
    "early_stopping_patience": (
        "Stop when this many measurements in a row bring no better eval loss; 0 never stops early."
    ),
    "load_best_at_end": (
        "End with the checkpoint of the lowest eval loss instead of the last one."
    ),
    "on_out_of_memory": (
        "When the memory runs out: stop and say so, or go on from the last checkpoint with half "
        "the batch and twice the batches per correction (the same result, slower)."
    ),
    "num_processes": (
        "Training processes, one a device. “auto” uses every device of this machine."
    ),
    "distributed": (
        "With several processes: each holds a whole model (ddp), or a share of one that is too "
        "big for a device (fsdp)."
    ),
}

CHOICES = {
    "adapter": ("lora", "qlora", "full"),
    "precision": ("auto", "fp32", "bf16", "fp16", "int8", "int4"),
    "optim": ("adamw_torch", "adamw_bnb_8bit", "paged_adamw_8bit", "adafactor"),
    "lr_scheduler_type": ("cosine", "linear", "constant", "constant_with_warmup"),
    "report_to": ("none", "tensorboard", "wandb", "trackio"),
    "on_out_of_memory": ("stop", "halve_batch"),
    "distributed": ("ddp", "fsdp"),
}

LIMITS = {
    "lora_r": (1, 1024),
    "lora_alpha": (1, 4096),
    "lora_dropout": (0.0, 0.9),
    "learning_rate": (1e-8, 0.1),
    "num_train_epochs": (0.01, 1000),
    "max_steps": (-1, 10_000_000),
    "per_device_train_batch_size": (1, 1024),
    "gradient_accumulation_steps": (1, 1024),
    "warmup_steps": (0, 100_000),
    "weight_decay": (0.0, 1.0),
    "max_grad_norm": (0.0, 1000.0),
    "max_length": (8, 1_048_576),
    "eval_fraction": (0.0, 0.5),
    "eval_steps": (0, 10_000_000),
    "save_steps": (0, 10_000_000),
    "logging_steps": (1, 10_000),
    "seed": (0, 2**31 - 1),
    "answer_check_rows": (0, 1000),
    "early_stopping_patience": (0, 1000),
    "num_processes": (1, 1024),
}
