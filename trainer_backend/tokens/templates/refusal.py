"""What a chat template's refusal means, in words: what is missing, and what helps.

The template's own sentences are kept. Nothing is rendered here.
"""

import re

from trainer_backend.recipe import label

REFUSED = "The chat template refuses this conversation: "
UNKNOWN = re.compile(r"'(\w+)_token' is undefined")
NAMES = {"eos": "end token", "bos": "begin token", "pad": "padding token", "unk": "unknown token"}
ADVICE = (  # the first whose words are in the template's sentence
    (r"alternat|user/assistant", "Join neighbouring messages of one role, or leave the rows out."),
    (r"system", "Move the system text into the first user message, or leave it out."),
    (r"single tool|one tool|only support\w* \w*\s?(tool|call)", "Write one call a message."),
    (r"\bids?\b", "Give every call an id of its own, and its tool message the same."),
)
TRAINING = f"Set “{label('chat_template')}” to the training template, or use another model."
OTHERWISE = "Change the order or roles of its messages, or use a model with another template."


def refusal(error: Exception) -> tuple[str, str]:
    """(what, fix) for an error that rendering a conversation raised."""
    said = str(error).strip().rstrip(".") or type(error).__name__
    unknown = UNKNOWN.search(said)
    if unknown:
        name = NAMES.get(unknown[1], f"{unknown[1]} token")
        fix = f"Give the tokenizer one ({unknown[1]}_token)"
        fix += f", or name it in “{label('eos_token')}”." if unknown[1] == "eos" else "."
        return f"The tokenizer has no {name}, and the chat template writes one.", fix
    if isinstance(error, TypeError) or "is undefined" in said or "has no attribute" in said:
        return f"The chat template cannot write this conversation: {said}.", TRAINING
    other = TRAINING if re.search("tool|function|call", said, re.I) else OTHERWISE
    fix = next((fix for words, fix in ADVICE if re.search(words, said, re.I)), other)
    return f"{REFUSED}{said}.", fix
