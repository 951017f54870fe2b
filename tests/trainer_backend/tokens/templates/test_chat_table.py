"""28 chat templates × 11 conversations: what is learned is right, or the loss is said."""

import numpy as np
import pytest
from chat_table import TALKS, TEMPLATES, TOOLS, row_of, tokenizer_of

from trainer_backend.data.checks import content_findings
from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.encode import encode, prompt_ids
from trainer_backend.tokens.templates.training import training_template

# for each conversation in the order of TALKS: r right, s said (a finding names what is lost),
# m right and said to be moved or opened, x refused in words
EXPECTED = {
    "cohere": "rrrmxsssxsr",
    "cohere2": "rrrrrrrrrsr",
    "deepseekv3": "rrrrrssssss",
    "diffusion_gemma": "rrrrrrrrrsr",
    "gemma": "rmrmxsssxsr",
    "gemma3": "rrrmxsssxsr",
    "glm4moe": "rrrrrrrrrrr",
    "gpt-oss": "rrrmrrxrrrr",
    "granite": "rrrrrrrrrsr",
    "idefics3": "rrrrrsssssr",
    "lfm2": "rrrrrsssssr",
    "llama3.1": "rrrrrrxsrsr",
    "llama3.2": "rrrrrrxsrsr",
    "llama3": "rrrrrsssssr",
    "llava_next": "rrrrrsssxsr",
    "mistral": "rrrmxrrsrsr",
    "nemotron": "rrrmrrrrrsr",
    "phi3.5": "rrrrrxxsxsr",
    "phi3": "rmrmrsssssr",
    "qwen2.5-vl": "rrrrrsssssr",
    "qwen2.5": "rrrrrrrrrsr",
    "qwen3-2507": "rrrrrrrrrsr",
    "qwen3-vl": "rrrrrrrrrsr",
    "qwen3.5": "rrrmrrrrrrr",
    "qwen3.6": "rrrmrrrrrrr",
    "qwen3": "rrrrrrrrrrr",
    "r1-distill": "mmmmmssssmm",
    "smollm3": "rrrrrsssssr",
}


def learned_of(row: dict, tokenizer) -> tuple[str, str, int]:
    """The learned text, the whole text and the findings' flags; the prompt is checked."""
    encoding = encode(row, tokenizer, assistant_only_loss=True, lost_content="train_without")
    messages, tools = row["messages"], row.get("tools")
    prompt = prompt_ids(messages[:-1], tokenizer, tools=tools)
    assert encoding.input_ids[: len(prompt)] == prompt, "the chat prompt begins the trained text"
    learned = tokenizer.decode([label for label in encoding.labels if label != -100])
    return learned, tokenizer.decode(encoding.input_ids), encoding.ledger


def pieces(messages: list[dict]) -> tuple[list[str], list[str]]:
    """What must be learned of a conversation, and what must stand in its context."""
    learned: list[str] = []
    context = [one["content"] for one in messages if one["role"] != "assistant"]
    for one in messages:
        if one["role"] == "assistant":
            learned += [one["reasoning_content"]] if "reasoning_content" in one else []
            learned += [
                part for part in one["content"].split("\n") if part.strip() and "<" not in part
            ]
            for call in one.get("tool_calls", ()):
                learned += [call["function"]["name"], call["function"]["arguments"]["city"]]
    return learned, context


def cell(row: dict, tokenizer) -> str:
    try:
        learned, whole, flags = learned_of(row, tokenizer)
    except TrainingDataError as error:
        assert error.what and error.fix
        return "x"
    wanted, context = pieces(row["messages"])
    kinds = [kind.code for kind, _ in content_findings(np.array([flags], np.int64))]
    said = [code for code in kinds if code.endswith("_lost")]
    changed = [code for code in kinds if code in ("system_moved", "thought_opened")]
    assert not any(text in learned for text in context), "context is not learned"
    context += [TOOLS[0]["function"]["description"]] if "tools" in row else []
    right = all(text in learned for text in wanted) and all(text in whole for text in context)
    if right and not said:
        return "m" if changed else "r"
    assert said, f"lost in silence: {learned!r}"
    return "s"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_what_a_template_leaves_out_is_said(path):
    tokenizer = tokenizer_of(path.stem)
    assert "".join(cell(row_of(talk), tokenizer) for talk in TALKS) == EXPECTED[path.stem]


OWN = {"gpt-oss", "diffusion_gemma"}  # their own templates write calls in ways of their own


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_training_template_leaves_nothing_out(path):
    tokenizer = tokenizer_of(path.stem)
    plain = {talk: encode(row_of(talk), tokenizer).input_ids for talk in ("plain", "turns")}
    template = training_template(tokenizer)
    assert (template is None) == (path.stem in OWN)
    if template is None:
        return
    tokenizer.chat_template = template
    assert {talk: encode(row_of(talk), tokenizer).input_ids for talk in plain} == plain
    found = {talk: cell(row_of(talk), tokenizer) for talk in TALKS}
    assert {talk: one for talk, one in found.items() if one != "r"} == {}
