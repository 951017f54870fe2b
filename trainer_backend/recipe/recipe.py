"""The recipe: every setting of a run, as frozen data, with its label, help, limits and choices.

A setting has one name everywhere: Recipe field = YAML key = form key = library argument. The form
is built from this table, and errors take the labels from it.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from trainer_backend.recipe.chat_templates import BUILT_IN
from trainer_backend.recipe.settings import checked_settings, setting, settings_of

STARTER_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class Recipe:
    """All settings of a run. A `section` of the form begins with the field that names it."""

    base_model: str = setting(
        STARTER_MODEL,
        "Base model",
        "The model to start from: a Hub id (owner/name) or a folder on this machine.",
        expert=False,
    )
    adapter: str = setting(
        "lora",
        "Method",
        "LoRA trains a small adapter: fast, little memory. QLoRA also quantizes the base model. "
        "Full trains every weight.",
        section="Main settings",
        choices={
            "lora": "LoRA (small adapter)",
            "qlora": "QLoRA (small adapter, quantized model)",
            "full": "Full (every weight)",
        },
        expert=False,
    )
    learning_rate: float | str = setting(
        "auto",
        "Learning rate",
        "Size of each weight update. “auto” picks 2e-4 for LoRA and 2e-5 for full training.",
        limits=(1e-8, 0.1),
        example="0.0002",
        expert=False,
    )
    num_train_epochs: float = setting(
        3.0,
        "Epochs",
        "How many times the model sees all of your data.",
        limits=(0.01, 1000),
        expert=False,
    )
    max_steps: int = setting(
        -1,
        "Maximum steps",
        "Stop after this many steps (weight updates), whatever the epochs say. -1: go by epochs.",
        limits=(-1, 10_000_000),
        expert=False,
    )
    per_device_train_batch_size: int = setting(
        8,
        "Batch size",
        "Examples of one batch on each device. A GPU without room for them computes them in parts "
        "(the same result, slower); elsewhere halve it when memory runs out.",
        limits=(1, 1024),
        expert=False,
    )
    gradient_accumulation_steps: int = setting(
        1,
        "Gradient accumulation",
        "Batches added up before each weight update: a larger batch without more memory. A GPU "
        "with room for them computes them at once (the same result, faster).",
        limits=(1, 1024),
    )
    max_length: int = setting(
        1024,
        "Maximum length",
        "Longest example in tokens (about ¾ of a word each). Longer ones are cut.",
        limits=(8, 1_048_576),
        expert=False,
    )
    precision: str = setting(
        "auto",
        "Precision",
        "Number format of the base model's weights. Automatic picks what this machine does well.",
        section="Precision, memory and LoRA",
        choices={
            "auto": "Automatic",
            "fp32": "fp32 (exact, most memory)",
            "bf16": "bf16",
            "fp16": "fp16",
            "int8": "int8 (8 bits)",
            "int4": "int4 (4 bits)",
        },
    )
    gradient_checkpointing: bool = setting(
        False,
        "Gradient checkpointing",
        "Saves memory by computing activations twice (about a quarter slower). A run whose longest "
        "batch does not fit without it switches it on by itself.",
    )
    activation_offloading: bool = setting(
        False,
        "Activation offloading",
        "On a GPU: keeps activations in main memory until they are needed. Saves memory, slower. A "
        "run whose longest batch does not fit without it switches it on by itself.",
    )
    lora_r: int = setting(
        16,
        "LoRA rank",
        "Size of the adapter. A higher rank learns more and takes more memory; 8 to 32 is usual.",
        limits=(1, 1024),
    )
    lora_alpha: int = setting(
        32,
        "LoRA alpha",
        "How strongly the adapter counts. Twice the rank is a good start.",
        limits=(1, 4096),
    )
    lora_dropout: float = setting(
        0.0,
        "LoRA dropout",
        "Share of the adapter switched off at random in training; a little helps tiny datasets.",
        limits=(0.0, 0.9),
    )
    lora_target_modules: str = setting(
        "all-linear",
        "LoRA target modules",
        "Which layers get an adapter. “all-linear” is best; or layer names with commas.",
    )
    layers_to_transform: str = setting(
        "",
        "LoRA layers",
        "Layers that get an adapter, counted from 0: “0-7” or “20, 21”. Empty: every layer.",
    )
    modules_to_save: str = setting(
        "",
        "Modules trained in full",
        "Modules trained whole beside the adapter, with commas: “lm_head, embed_tokens”.",
    )
    init_lora_weights: str = setting(
        "default",
        "LoRA start values",
        "PiSSA starts from the largest components of the weights and learns faster at first.",
        choices={"default": "Default", "pissa": "PiSSA"},
    )
    use_rslora: bool = setting(
        False,
        "Rank-stabilized LoRA",
        "rsLoRA divides alpha by the square root of the rank: better with ranks above 32.",
    )
    use_dora: bool = setting(
        False,
        "DoRA",
        "Learns the size of each weight column apart from its direction: often better, slower.",
    )
    loraplus_lr_ratio: float = setting(
        0.0,
        "LoRA+ ratio",
        "How many times higher the learning rate of the B matrices is; 16 is usual. 0: the same.",
        limits=(0.0, 1000.0),
    )
    assistant_only_loss: bool = setting(
        True,
        "Assistant-only loss",
        "On: the model learns to write the answers. Off: it also learns to write the prompts.",
        section="Prompt, packing and loss",
    )
    last_turn_only: bool = setting(
        False,
        "Last answer only",
        "On: of a conversation only the last answer is learned, earlier ones are context.",
    )
    packing: bool = setting(
        False,
        "Packing",
        "Joins short examples into full rows. Faster when most are much shorter than the longest.",
    )
    truncation_mode: str = setting(
        "keep_start",
        "Truncation",
        "Which part of a row that is too long is kept.",
        choices={"keep_start": "Keep the start", "keep_end": "Keep the end"},
    )
    loss_type: str = setting(
        "nll",
        "Loss function",
        "DFT weights each token by its probability, so that rare answers pull less. "
        "The eval loss is always cross-entropy.",
        choices={"nll": "Cross-entropy", "dft": "DFT (dynamic fine-tuning)"},
    )
    label_smoothing_factor: float = setting(
        0.0,
        "Label smoothing",
        "Share of the target spread over all tokens; 0.1 keeps a model from being too sure. "
        "The eval loss has none.",
        limits=(0.0, 0.9),
    )
    neftune_noise_alpha: float = setting(
        0.0,
        "NEFTune noise",
        "Noise on the embeddings in training; 5 often makes better chat answers. 0 is off.",
        limits=(0.0, 100.0),
    )
    system_prompt: str = setting(
        "",
        "System prompt",
        "Put in front of every example that has no system message of its own.",
        expert=False,
    )
    chat_template: str = setting(
        "model",
        "Chat template",
        "How messages become text. The training template writes what some models' own templates "
        "leave out (tool calls, tools, reasoning), in the format of the model's family.",
        choices={
            "model": "The model's own",
            "training": "Training template (leaves nothing out)",
            **BUILT_IN,
        },
        or_template=True,
    )
    thinking: str = setting(
        "auto",
        "Thinking",
        "For templates with a thinking switch: train and ask with it on or off. "
        "Automatic leaves the switch as the template has it.",
        choices={"auto": "Automatic", "on": "On", "off": "Off"},
    )
    eos_token: str = setting(
        "",
        "End token",
        "The token that ends an answer. Empty: the one that the chat template writes after it.",
    )
    control_tokens: str = setting(
        "auto",
        "Control tokens in texts",
        "How text that spells a control token of the model (<|im_end|>) is read. Automatic: as "
        "text, except in texts that are already rendered with a chat template.",
        choices={
            "auto": "Automatic",
            "text": "As text (never a control token)",
            "tokens": "As control tokens",
        },
    )
    lost_content: str = setting(
        "ask",
        "Content the template omits",
        "What to do when the chat template writes nothing of a kind of content, such as tool calls "
        "or reasoning: ask before training, train without it, or leave those rows out.",
        choices={
            "ask": "Ask before training",
            "train_without": "Train without it",
            "leave_out": "Leave those rows out",
        },
    )
    optim: str = setting(
        "adamw_torch",
        "Optimizer",
        "AdamW is the standard. 8-bit AdamW and Adafactor save memory.",
        section="Optimizer and schedule",
        choices={
            "adamw_torch": "AdamW",
            "adamw_bnb_8bit": "8-bit AdamW",
            "paged_adamw_8bit": "Paged 8-bit AdamW",
            "adafactor": "Adafactor",
        },
    )
    lr_scheduler_type: str = setting(
        "cosine",
        "Learning rate schedule",
        "How the learning rate falls during the run.",
        choices={
            "cosine": "Cosine (falls in a curve)",
            "linear": "Linear (falls in a line)",
            "constant": "Constant",
            "constant_with_warmup": "Constant with warm-up",
        },
    )
    warmup_steps: float = setting(
        0.03,
        "Warm-up",
        "The learning rate rises from 0 at first. Below 1: a share of the run, else steps.",
        limits=(0, 100_000),
    )
    weight_decay: float = setting(
        0.0,
        "Weight decay",
        "Pulls weights towards zero a little; reduces overfitting.",
        limits=(0.0, 1.0),
    )
    max_grad_norm: float = setting(
        1.0,
        "Gradient clipping",
        "Scales down gradients with a larger norm than this. 1.0 is a safe value; 0 is off.",
        limits=(0.0, 1000.0),
    )
    adam_beta1: float = setting(
        0.9,
        "Adam beta 1",
        "How long AdamW remembers the direction of gradients.",
        limits=(0.0, 0.9999),
    )
    adam_beta2: float = setting(
        0.999,
        "Adam beta 2",
        "How long AdamW remembers the size of gradients; 0.95 is usual for large batches.",
        limits=(0.0, 0.99999),
    )
    seed: int = setting(
        42,
        "Seed",
        "The same seed gives the same shuffling and the same start.",
        limits=(0, 2**31 - 1),
    )
    eval_fraction: float = setting(
        0.05,
        "Held-out share",
        "Share of the rows kept aside for evaluation: the model never learns from them.",
        section="Evaluation, checkpoints and logging",
        limits=(0.0, 0.5),
        expert=False,
    )
    eval_steps: float = setting(
        0.1,
        "Evaluation interval",
        "How often to evaluate. Below 1: a share of the run, else steps; 0: only at the end.",
        limits=(0, 10_000_000),
    )
    answer_check_rows: int = setting(
        40,
        "Evaluation rows",
        "Held-out rows that base and tuned model both answer after training, scored and compared. "
        "0: no evaluation at the end.",
        limits=(0, 1000),
        expert=False,
    )
    eval_metrics: str = setting(
        "auto",
        "Measures",
        "What answers are scored by, with commas: exact_match, contains, token_f1, chrf, rouge_l, "
        "json_valid, json_fields, label_f1, tool_call_match. “auto” chooses what fits them; loss "
        "and perplexity are always measured.",
    )
    sample_rows: int = setting(
        3,
        "Samples while training",
        "Held-out prompts that the model answers at each evaluation, to read how it changes. They "
        "take under 5 % of the run's time; 0: none.",
        limits=(0, 20),
    )
    save_steps: float = setting(
        0.2,
        "Checkpoint interval",
        "How often to save. Below 1: a share of the run, else steps; 0: only at the end.",
        limits=(0, 10_000_000),
    )
    logging_steps: int = setting(
        1,
        "Logging interval",
        "Steps between two points of the live chart.",
        limits=(1, 10_000),
    )
    report_to: str = setting(
        "none",
        "Report to",
        "Also send the curves to TensorBoard, Weights & Biases or trackio.",
        choices={
            "none": "Nothing else",
            "tensorboard": "TensorBoard",
            "wandb": "Weights & Biases",
            "trackio": "trackio",
        },
    )
    early_stopping_patience: int = setting(
        0,
        "Early stopping",
        "Stop when this many evaluations in a row bring no lower eval loss; 0: never stop early.",
        limits=(0, 1000),
    )
    load_best_at_end: bool = setting(
        False,
        "Best checkpoint at the end",
        "End with the checkpoint of the lowest eval loss instead of the last one.",
    )
    on_out_of_memory: str = setting(
        "stop",
        "Out of memory",
        "When memory runs out: stop and say so, or continue from the last checkpoint with half the "
        "batch size and twice the gradient accumulation (the same result, slower).",
        section="Out of memory and several devices",
        choices={"stop": "Stop and say so", "halve_batch": "Continue with half the batch size"},
    )
    num_processes: int | str = setting(
        "auto",
        "Training processes",
        "One a device. “auto” uses every device of this machine.",
        limits=(1, 1024),
        example="2",
    )
    distributed: str = setting(
        "ddp",
        "Distributed training",
        "With several processes: each holds the whole model (DDP), or a share of one that is too "
        "big for a device (FSDP).",
        choices={"ddp": "DDP (whole model on each device)", "fsdp": "FSDP (a share on each)"},
    )
    extra_arguments: str = setting(
        "",
        "Further arguments",
        "Arguments of SFTConfig that have no field here, one a line: “adam_epsilon: 1e-6”.",
        section="Other arguments of the trainer",
    )

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "recipe") -> "Recipe":
        """Build a recipe from {field: value}; missing fields keep their default.

        Raises UserError for an unknown field or a value that is not allowed.
        """
        return replace(cls(), **parse_settings(values, where))

    def to_dict(self) -> dict[str, Any]:
        """{field: value} of every field."""
        return asdict(self)


SETTINGS = settings_of(Recipe)


def parse_settings(values: dict[str, Any], where: str = "recipe") -> dict[str, Any]:
    """Check and convert some settings (of a preset, a request, --set). Raises UserError."""
    return checked_settings(SETTINGS, values, where)
