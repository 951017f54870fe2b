"""How the control tokens were read that a row's texts spell, as flags and in words.

The flags stand in the same integer as those about content, above them. No text is searched.
"""

import numpy as np

from trainer_backend.data.checks.findings import Kind
from trainer_backend.recipe import changed_to, label

SPELLED = 1 << 52  # encoded as plain text
READ = 1 << 53  # the template itself looks for them in texts: left to it
RENDERED_TEXT = 1 << 54  # a plain text with turns of this model: they stay control tokens
RENDERED_AS_TEXT = 1 << 55  # turns of this model in a text that is encoded as plain text
RENDERED_OTHER = 1 << 56  # turns of another model's template
SEEN_AS_TOKENS = 1 << 58  # of a row with images: its processor reads them as control tokens

_TOKENS = changed_to({"control_tokens": "tokens"})
_TEXT = changed_to({"control_tokens": "text"})
KINDS = (
    (
        SPELLED,
        Kind(
            "model_tokens",
            "warning",
            "Texts of these rows spell control tokens of this model. They are encoded as plain "
            "text.",
            "Nothing is needed where they are meant as text. Leave the rows out if they are left "
            f"over from something else, or set {_TOKENS} if they are meant as control tokens.",
            ("drop",),
        ),
    ),
    (
        READ,
        Kind(
            "template_tokens",
            "info",
            "Texts of these rows spell control tokens that the chat template itself looks for. "
            "They are read as the template reads them, and stay control tokens.",
            "Nothing is needed: reasoning between <think> and </think>, for example, is meant so.",
            ("drop",),
        ),
    ),
    (
        RENDERED_TEXT,
        Kind(
            "rendered_tokens",
            "info",
            "The texts of these rows are rendered already, with turns of this model: their control "
            "tokens stay control tokens.",
            f"Nothing is needed. If the texts only show such turns, set {_TEXT}.",
            ("drop",),
        ),
    ),
    (
        RENDERED_AS_TEXT,
        Kind(
            "rendered_messages",
            "warning",
            "Texts of these rows carry rendered turns of this model, and are encoded as plain "
            "text: the model sees no turns in them.",
            "If the data is rendered already, load it as plain text (one column “text”), or give "
            f"each turn as a message. “{label('control_tokens')}” decides how they are read.",
            ("drop",),
        ),
    ),
    (
        SEEN_AS_TOKENS,
        Kind(
            "image_tokens",
            "warning",
            "Texts of these rows spell control tokens of this model beside their images, and are "
            "read as control tokens: the model's image processor knows no other way.",
            "Leave the rows out, or take the control tokens out of their texts.",
            ("drop",),
        ),
    ),
    (
        RENDERED_OTHER,
        Kind(
            "rendered_other",
            "warning",
            "Texts of these rows carry rendered turns of another model's chat template. They are "
            "plain text for this model.",
            "Give each turn as a message, or leave the rows out.",
            ("drop",),
        ),
    ),
)


def control_findings(flags: np.ndarray) -> list[tuple[Kind, np.ndarray]]:
    """Each finding about control tokens in texts and its rows: bool [rows] of int64 [rows]."""
    found = [(kind, flags & bit != 0) for bit, kind in KINDS]
    return [(kind, rows) for kind, rows in found if rows.any()]
