"""The measures of an evaluation that a recipe names, read from text.

What a measure computes is not known here.
"""

from difflib import get_close_matches

from trainer_backend.errors import UserError
from trainer_backend.recipe.adapter_parts import parse_names
from trainer_backend.recipe.labels import label

LOSSES = ("loss", "perplexity")  # are measured whatever is named
MEASURES = (
    *("exact_match", "contains", "token_f1", "chrf", "rouge_l"),
    *("json_valid", "json_fields", "label_f1", "tool_call_match"),
)


def parse_metrics(text: str, where: str = "") -> tuple[str, ...] | None:
    """“chrf, exact_match” as measures of answers, each once; () for “auto”: what fits them.

    None if only loss and perplexity are named: no answer is needed. Raises UserError for a name
    that is no measure.
    """
    names = [one.lower() for one in parse_names(text)]
    if names in ([], ["auto"]):
        return ()
    for one in names:
        if one not in (*MEASURES, *LOSSES):
            near = get_close_matches(one, (*MEASURES, *LOSSES), 2)
            fix = f"Did you mean {' or '.join(near)}?" if near else "Write names with commas."
            known = ", ".join((*LOSSES, *MEASURES))
            raise UserError(
                f"“{one[:40]}” is no measure.",
                where or label("eval_metrics"),
                f"{fix} There are: {known}; or “auto”.",
            )
    return tuple(one for one in names if one in MEASURES) or None
