"""Errors that a user can fix, findings of checks, and the stable codes of both.

    Exception
    ├── UserError              what happened, where, and how to fix it
    │   └── TrainingDataError  a row or setting that cannot be trained on; a ValueError too
    └── RowError               a row that cannot be used, before its number is known

Nothing is caught or shown here: the page, the command line and the worker do that at their edge.
"""

from dataclasses import asdict, dataclass

MEMORY_WORDS = (
    "out of memory",
    "cublas_status_alloc_failed",
    "defaultcpuallocator: can't allocate",
)
CODES = {  # scripts may rely on a code; the sentences may change
    # data
    "encoding": "The file is not in the encoding it was read with.",
    "damaged": "Some rows of the file cannot be read.",
    "duplicates": "Rows that are the same word for word.",
    "near_duplicates": "Rows that are nearly the same.",
    "held_out_overlap": "Rows used for both training and evaluation.",
    "empty_answer": "Rows without an answer.",
    "over_length": "Rows longer than the maximum length, which are cut.",
    "no_answer_left": "Rows whose answer is lost when they are cut.",
    "nothing_learned": "Rows without a token to train on.",
    "template_error": "Rows that the chat template rejects.",
    "system_lost": "Rows whose system text the chat template does not write.",
    "tools_lost": "Rows whose tool definitions the chat template does not write.",
    "calls_lost": "Rows whose tool calls the chat template does not write.",
    "reasoning_lost": "Rows whose reasoning the chat template does not write.",
    "text_lost": "Rows of whose texts the chat template does not write one.",
    "media_lost": "Rows whose images, audio or video have no place in the rendered text.",
    "system_moved": "Rows whose system text stands in the user's message.",
    "thought_opened": "Rows whose last answer follows the thought that the prompt opens.",
    "doubled": "Rows of which the chat template writes a text twice.",
    "not_learned": "Rows of whose answers a part is read but not learned.",
    "no_stop": "Rows that teach no token that ends an answer.",
    "model_tokens": "Rows whose text spells control tokens of the chosen model: plain text.",
    "template_tokens": "Rows whose text spells control tokens that the chat template looks for.",
    "rendered_tokens": "Texts that are rendered already and keep their control tokens.",
    "rendered_messages": "Rendered turns of the chosen model that are encoded as plain text.",
    "image_tokens": "Rows with images whose text spells control tokens, which it then has.",
    "rendered_other": "Rendered turns of another model's chat template.",
    "no_positions": "Rows longer than the model's table of positions.",
    "beyond_trained": "Rows longer than the model was trained to read.",
    "control_tokens": "Rows whose text spells what looks like control tokens of a model.",
    "mojibake": "Text that was once decoded with the wrong encoding.",
    "secret": "Text that looks like a password or a key.",
    "email": "Text with e-mail addresses.",
    "phone": "Text that looks like phone numbers.",
    "card_number": "Text that looks like card numbers.",
    "lost_letters": "Text in which characters were replaced by a replacement mark.",
    "control_characters": "Text with invisible control characters.",
    "outer_space": "Answers that begin or end with whitespace.",
    "empty_prompt": "Rows without a prompt.",
    "empty_text": "Rows without text.",
    "unusable_row": "Rows that cannot be turned into an example.",
    "unread_keys": "Keys of messages, calls or parts that nothing reads.",
    "learn_marks": "Messages of the user that are marked to be learned.",
    "left_out_part": "Parts of messages that are no text and are left out.",
    "joined_parts": "Parts of a message that are joined without a space.",
    "moved_part": "Messages whose parts are put in another order.",
    "null_arguments": "Nulls in arguments of calls, taken for absent ones.",
    "two_systems": "Rows with a system column and a system message.",
    "columns_unclear": "What the columns mean is not certain.",
    "unused_text": "A column of text would be left out of training.",
    "preference_data": "Answers come with a verdict: which to train on is to be decided.",
    "rejected_answer": "Rows whose answer is marked as bad.",
    "token_rows": "The rows are tokens, not text.",
    "segments": "Texts are cut into parts that are learned or not.",
    "missing_value": "Cells that say NaN, None or N/A.",
    "media_marks": "Marks of images, sounds or videos that are not there.",
    "object_text": "Messages whose text is an object, written as JSON.",
    "parts_text": "Messages whose text is a list of parts.",
    "python_text": "Texts written by Python with values that are not plain.",
    "role_order": "Conversations whose roles do not alternate as expected.",
    "same_text": "Rows whose answer repeats the prompt.",
    "label_leak": "Rows whose prompt contains the answer.",
    "leaked_labels": "Nearly all prompts end with their answer.",
    "boilerplate": "Answers with another assistant's stock phrases.",
    "prompt_repeats": "Prompts with several different answers.",
    "same_answer": "One answer to many prompts.",
    "short_answers": "Answers that are much shorter than the others.",
    "cut_answers": "Answers that stop in mid-sentence.",
    "mixed_languages": "Answers in a different language than their prompt.",
    "one_row": "There is only one row.",
    "few_rows": "There are few rows.",
    "others": "More kinds of problems than are listed.",
    "dataset_in_use": "A run needs this dataset.",
    # before the start
    "content_lost": "The chat template omits a kind of content; the user must decide.",
    "rows_refused": "The chat template rejects rows that the run would train on.",
    "disk_small": "The run will write more than the disk has room for.",
    "memory_small": "The weights alone do not fit into memory.",
    "labels_empty": "A batch has no labels to train on.",
    "token_ids": "The tokenizer has more tokens than the model's embedding.",
    "missing_package": "A package is not installed.",
    "import_error": "A package is installed but cannot be imported.",
    "home_in_use": "Another app holds this home folder.",
    # while it trains
    "out_of_memory": "The GPU ran out of memory.",
    "system_memory": "The machine ran out of memory.",
    "killed": "The training process was killed from outside.",
    "gpu": "The GPU, its driver or a library of it failed.",
    "crashed": "The training process crashed.",
    "exit_code": "The training process exited without an error message.",
    "lost_worker": "The training process disappeared.",
    "rank_failed": "One of several training processes failed.",
    "hang": "No progress for longer than this phase should take.",
    "nan_loss": "The loss or the gradient is NaN or infinite.",
    "disk_full": "The disk is full.",
    "failed": "Training failed for a reason without a code of its own.",
    # resuming
    "dataset_changed": "The data differs from what the run started with.",
    "base_changed": "The base model differs from what the run started with.",
    "settings_locked": "These settings cannot change within a run.",
    "checkpoints_bad": "No checkpoint of the run is intact.",
    # the model
    "model_id": "The text is neither a model id nor a folder with a model.",
    "model_adapter": "An adapter, which is no model of its own.",
    "model_format": "The weights are not in safetensors files.",
    "model_unfit": "The architecture cannot be trained here.",
    "model_outside": "The folder lies outside of the folders that models may come from.",
    # the Hub
    "hub_down": "The Hub cannot be reached.",
    "hub_login": "The Hub does not accept the access token.",
    "hub_gated": "The model's terms must be accepted first.",
    "hub_missing": "The Hub has no such model, dataset or file.",
    "hub_busy": "The Hub asks to wait.",
    "hub_partial": "A download ended early.",
}


class UserError(Exception):
    """Something the user can fix: what happened, where, and how to fix it (all three filled).

    `code` is a name from CODES ("" for none). `offer` is a fix that one click applies: read again
    with {"encoding": name} or {"skip_damaged": True}, or start again with
    {"retry": {recipe field: value}}; where there are several ways, "choices" lists them all.
    """

    def __init__(
        self, what: str, where: str, fix: str, *, code: str = "", offer: dict | None = None
    ):
        if not (what and where and fix):
            raise ValueError("UserError needs what, where and fix")
        super().__init__(f"{what} ({where}) {fix}")
        self.what, self.where, self.fix = what, where, fix
        self.code, self.offer = code, offer

    def to_dict(self) -> dict:
        """The parts as plain data, for state files and JSON output."""
        parts = {"what": self.what, "where": self.where, "fix": self.fix}
        return {**parts, "code": self.code, "offer": self.offer}


class TrainingDataError(UserError, ValueError):
    """A row or setting that cannot be trained on; a ValueError too, as scripts expect."""


class RowError(Exception):
    """Why one row cannot be used, and how to fix it. Rows with the same fault share one `what`.

    `code` is a name from CODES; findings are grouped and fixed by it.
    """

    def __init__(self, what: str, fix: str, code: str = "unusable_row"):
        super().__init__(what)
        self.what, self.fix, self.code = what, fix, code


@dataclass(frozen=True)
class Problem:
    """One finding of a check. `rows` are the first row numbers, `count` is how many there are.

    `code` is a name from CODES. `switches` are the safe fixes on offer, the default first:
    "drop", "keep_one", "trim" (outer whitespace), "clean" (control characters),
    "join" (neighbouring messages of one role). `choices` are
    changes of the recipe, {setting: value}, each of which decides about the rows.
    """

    severity: str  # "error" blocks training; "warning" and "info" are only shown
    what: str
    where: str
    fix: str
    rows: tuple[int, ...] = ()
    count: int = 0
    code: str = ""
    switches: tuple[str, ...] = ()
    choices: tuple[dict, ...] = ()

    def __post_init__(self) -> None:
        for name in ("rows", "switches", "choices"):  # lists, when read back from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def to_dict(self) -> dict:
        """Plain data with the keys of the `check --json` output."""
        lists = {name: list(getattr(self, name)) for name in ("rows", "switches", "choices")}
        return {**asdict(self), **lists}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the GPU or the machine (torch raises a RuntimeError for both)."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(one in words for one in MEMORY_WORDS)
    )
