"""What the user must fix, in words: the exceptions, one finding, and the stable names of both.

    Exception
    ├── UserError              what happened, where, and how to fix it
    │   └── TrainingDataError  a row or setting that cannot be trained on; a ValueError too
    └── RowError               one row that cannot be read, before its number is known

Nothing is caught or shown here: that is done at the page's edge and the command line's edge.
"""

from dataclasses import asdict, dataclass

CODES = {  # a page or a script may act on a code; the words around it may change
    # data
    "encoding": "The file is not in the encoding it was read with.",
    "damaged": "Some rows of the file cannot be read.",
    "duplicates": "Rows that are the same word for word.",
    "near_duplicates": "Rows that are nearly the same.",
    "held_out_overlap": "Rows that are trained on and measured with.",
    "empty_answer": "Rows without an answer.",
    "over_length": "Rows that are cut at the longest example's length.",
    "no_answer_left": "Rows whose answer is lost when they are cut.",
    "nothing_learned": "Rows without a token to learn.",
    "template_error": "Rows the chat template refuses.",
    "model_tokens": "Rows whose text spells control tokens of the chosen model.",
    "control_tokens": "Rows whose text spells the model's control tokens.",
    "mojibake": "Text that was read in the wrong encoding once.",
    "secret": "Text that looks like a password or a key.",
    "email": "Text that holds e-mail addresses.",
    "phone": "Text that seems to hold phone numbers.",
    "card_number": "Text that seems to hold card numbers.",
    "lost_letters": "Text in which letters were replaced by a mark.",
    "control_characters": "Text with invisible control characters.",
    "outer_space": "Answers that begin or end with white space.",
    "empty_prompt": "Rows without a prompt.",
    "empty_text": "Rows without text.",
    "unusable_row": "Rows that cannot be made into an example.",
    "role_order": "Conversations whose speakers come in an odd order.",
    "same_text": "Rows whose answer is the prompt again.",
    "label_leak": "Rows whose prompt holds the answer.",
    "leaked_labels": "Nearly all prompts end with their answer.",
    "boilerplate": "Answers with another assistant's stock phrases.",
    "prompt_repeats": "Prompts that have several answers.",
    "same_answer": "One answer to many prompts.",
    "short_answers": "Answers that are very short beside the others.",
    "cut_answers": "Answers that stop in mid-sentence.",
    "mixed_languages": "Answers in another language than their prompt.",
    "one_row": "There is only one row.",
    "few_rows": "There are few rows.",
    "others": "More kinds of problems than are listed.",
    "dataset_in_use": "A run needs this dataset.",
    # before the start
    "disk_small": "The disk has less room than the run will write.",
    "memory_small": "The weights alone are more than the memory.",
    "labels_empty": "A batch has nothing to learn from.",
    "token_ids": "The tokenizer knows more tokens than the model.",
    "missing_package": "A package is not installed.",
    "import_error": "A package is installed and cannot be loaded.",
    "home_in_use": "Another app holds this home folder.",
    # while it trains
    "out_of_memory": "The memory of the GPU ran out.",
    "system_memory": "The memory of the machine ran out.",
    "killed": "The training process was ended from outside.",
    "crashed": "The training process crashed.",
    "exit_code": "The training process ended without a word.",
    "lost_worker": "The training process is gone, and nobody saw it end.",
    "rank_failed": "One of several training processes failed.",
    "hang": "There is no progress for longer than this phase should take.",
    "nan_loss": "The loss or the gradient is not a number.",
    "disk_full": "The disk is full.",
    "failed": "Training failed in a way that has no name here.",
    # resuming
    "dataset_changed": "The data is not the one the run began with.",
    "base_changed": "The base model is not the one the run began with.",
    "settings_locked": "These settings cannot change within a run.",
    "checkpoints_bad": "No checkpoint of the run is intact.",
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

    `code` is a name from CODES ("" for none). `offer` is what one click would do instead:
    {"encoding": name} or {"skip_damaged": True} to read again so, {"retry": {recipe field: value}}
    to start again so.
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
    """Why one row cannot be used, and how to fix it. `what` is the same for all rows alike."""

    def __init__(self, what: str, fix: str):
        super().__init__(what)
        self.what, self.fix = what, fix


@dataclass(frozen=True)
class Problem:
    """One finding of a check. `rows` are the first row numbers, `count` is how many there are.

    `code` is a name from CODES. `switches` are the safe fixes on offer, the default first:
    "drop", "keep_one", "trim" (white space at the ends), "clean" (control characters).
    """

    severity: str  # "error" stops a start, "warning" is shown, "info" is said
    what: str
    where: str
    fix: str
    rows: tuple[int, ...] = ()
    count: int = 0
    code: str = ""
    switches: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("rows", "switches"):  # lists, when read back from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def to_dict(self) -> dict:
        """Plain data with the keys of the `check --json` output."""
        return {**asdict(self), "rows": list(self.rows), "switches": list(self.switches)}
