"""28 public chat templates, rebuilt from documented formats, and 11 conversations."""

from pathlib import Path

from conftest import build_tokenizer

TEMPLATES = sorted((Path(__file__).parent / "chat_templates").glob("*.jinja"))
ENDS = {
    "cohere": "<|END_OF_TURN_TOKEN|>",
    "cohere2": "<|END_OF_TURN_TOKEN|>",
    "deepseekv3": "<｜end▁of▁sentence｜>",
    "r1-distill": "<｜end▁of▁sentence｜>",
    "gemma": "<end_of_turn>",
    "gemma3": "<end_of_turn>",
    "diffusion_gemma": "<turn|>",
    "glm4moe": "<|user|>",
    "gpt-oss": "<|return|>",
    "idefics3": "<end_of_utterance>",
    "llama3": "<|eot_id|>",
    "llama3.1": "<|eot_id|>",
    "llama3.2": "<|eot_id|>",
    "llava_next": "</s>",
    "mistral": "</s>",
    "nemotron": "<extra_id_1>",
    "phi3": "<|end|>",
    "phi3.5": "<|endoftext|>",
    "granite": "<|end_of_text|>",
}  # the others end answers with <|im_end|>
BEGINS = {"cohere": "<BOS_TOKEN>", "deepseekv3": "<｜begin▁of▁sentence｜>", "gemma": "<bos>"}
MORE = ("<|end|>", "<|call|>", "<|assistant|>", "<|observation|>", "<|tool_call|>", "[TOOL_CALLS]")


def _call(city: str) -> dict:
    return {
        "type": "function",
        "function": {"name": "get_rain", "arguments": {"city": city, "days": None}},
    }


def _says(role: str, content: str, **more: object) -> dict:
    return {"role": role, "content": content, **more}


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_rain",
            "description": "How much it rains.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
ASK, REPLY = _says("user", "Is it raining?"), _says("assistant", "Yes, it pours.")
MORE_ASK, MORE_REPLY = _says("user", "And tomorrow?"), _says("assistant", "Sun all day.")
SYSTEM = _says("system", "Be brief.")
CALLS = _says("assistant", "", tool_calls=[_call("Rome")])
RESULT = _says("tool", "12 mm")
TALKS = {
    "plain": [ASK, REPLY],
    "system": [SYSTEM, ASK, REPLY],
    "turns": [ASK, REPLY, MORE_ASK, MORE_REPLY],
    "system in the middle": [ASK, REPLY, SYSTEM, MORE_ASK, MORE_REPLY],
    "two users": [ASK, MORE_ASK, REPLY],
    "call": [ASK, CALLS],
    "parallel calls": [ASK, _says("assistant", "", tool_calls=[_call("Rome"), _call("Oslo")])],
    "call and text": [ASK, _says("assistant", "I look it up.", tool_calls=[_call("Rome")])],
    "result": [ASK, CALLS, RESULT, REPLY],
    "reasoning": [ASK, _says("assistant", "Yes, it pours.", reasoning_content="Clouds are dark.")],
    "think": [ASK, _says("assistant", "<think>\nClouds are dark.\n</think>\n\nYes, it pours.")],
}
WITH_TOOLS = {"call", "parallel calls", "call and text", "result"}


def row_of(name: str) -> dict:
    """The conversation of this name as encode() takes it."""
    return {"messages": TALKS[name]} | ({"tools": TOOLS} if name in WITH_TOOLS else {})


def tokenizer_of(name: str):
    """A small tokenizer with the special tokens and the template of a family."""
    from tokenizers import AddedToken

    tokenizer = build_tokenizer(None)
    end, begin = ENDS.get(name, "<|im_end|>"), BEGINS.get(name, "<s>")
    names = [AddedToken(one, special=True) for one in dict.fromkeys([end, begin, *MORE])]
    tokenizer.add_tokens(names)
    tokenizer.eos_token, tokenizer.bos_token = end, begin
    path = Path(__file__).parent / "chat_templates" / f"{name}.jinja"
    tokenizer.chat_template = path.read_text(encoding="utf-8")
    return tokenizer
