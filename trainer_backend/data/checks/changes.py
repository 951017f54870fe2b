"""What a row's messages were changed in so that its chat template can write them, as flags.

The flags stand in the same integer as those of the ledger, above them. No text is handled here.
"""

import numpy as np

from trainer_backend.data.checks.findings import Kind

SYSTEM_MOVED = 1 << 48  # the template has no system role: the text stands in the user's message
THOUGHT_OPENED = 1 << 49  # the last answer follows the thought that the generation prompt opens
MOVED_SYSTEM = Kind(
    "system_moved",
    "info",
    "The chat template has no place for the system text of these rows: it stands at the beginning "
    "of the user's message.",
    "Nothing is needed here. Where you ask the model elsewhere, put the text there too.",
)
OPENED_THOUGHT = Kind(
    "thought_opened",
    "info",
    "The model is asked with an open thought, and the chat template writes none in an answer: the "
    "last answer is trained after its reasoning, or after an empty thought.",
    "Nothing is needed. If the model should think, add the reasoning to the rows.",
)


def change_findings(flags: np.ndarray) -> list[tuple[Kind, np.ndarray]]:
    """Each kind of change and which rows it was made in: bool [rows] of int64 [rows]."""
    kinds = ((MOVED_SYSTEM, SYSTEM_MOVED), (OPENED_THOUGHT, THOUGHT_OPENED))
    found = [(kind, flags & bit != 0) for kind, bit in kinds]
    return [(kind, rows) for kind, rows in found if rows.any()]
