"""Does it answer right? Base and tuned model on held-out rows, compared with the expected answer.

Exact match after trimming white space. Losses are the trainer's business.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from .data.chat_template import prompt_ids
from .generate import answer_batch

BATCH = 20
SHOWN = 40
MAX_ANSWER_TOKENS = 512


def last_turn(row: dict) -> tuple[list[dict], str] | None:
    """The messages before a training row's last answer, and that answer; None without one."""
    messages = row.get("messages") or []
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        return None
    answer = messages[-1].get("content")
    return (messages[:-1], answer) if isinstance(answer, str) else None


def check_answers(
    rows: list[dict],
    tokenizer,
    tuned,
    base: Callable[[], AbstractContextManager],
    progress: Callable[[str, float, float, str], None],
) -> dict | None:
    """Answer each row's last turn with both models, greedily. None when no row can be asked.

    `base()` gives the base model as a context: for an adapter the same model, switched off.
    Returns {"rows", "base", "tuned" (shares from 0 to 1), "examples": [...]}.
    """
    turns = [turn for row in rows if (turn := last_turn(row))]
    if not turns:
        return None
    expected = [answer.strip() for _, answer in turns]
    prompts = [prompt_ids(messages, tokenizer) for messages, _ in turns]
    lengths = [len(tokenizer(answer, add_special_tokens=False).input_ids) for answer in expected]
    limit = min(MAX_ANSWER_TOKENS, max(lengths) + 16)
    what = "Checking answers on held-out rows"
    written: dict[str, list[str]] = {}
    for which, context in (("tuned", nullcontext(tuned)), ("base", base())):
        with context as model:
            model.eval()
            written[which] = []
            for start in range(0, len(prompts), BATCH):
                done = len(written[which]) + (len(prompts) if which == "base" else 0)
                progress(what, done, 2 * len(prompts), "answers")
                batch = prompts[start : start + BATCH]
                written[which] += answer_batch(model, tokenizer, batch, limit)
    return _score(turns, expected, written)


def _score(turns: list, expected: list[str], written: dict[str, list[str]]) -> dict:
    examples = []
    for index, (messages, _) in enumerate(turns):
        row = {"prompt": messages[-1]["content"], "expected": expected[index]}
        row |= {which: texts[index].strip() for which, texts in written.items()}
        examples.append(row)
    share = {
        which: sum(row[which] == row["expected"] for row in examples) / len(examples)
        for which in ("base", "tuned")
    }
    return {"rows": len(examples), **share, "examples": examples[:SHOWN]}
