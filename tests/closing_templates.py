"""Chat templates that end answers in different ways, written after their families' formats."""

CALLS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + (m.content or '') }}"
    "{% for c in m.tool_calls or [] %}"
    "{{ '<tool_call>\n' + c.function | tojson + '\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOOLS_SHOWN = (
    "{% if tools %}{{ 'TOOLS:' + tools | tojson + '\n' }}{% endif %}" + CALLS
)  # tools stand before the conversation
NEXT_ROLE = (  # GLM-4: a turn ends where the next role's mark stands
    "{% for m in messages %}{% if m.tool_calls %}{% for c in m.tool_calls %}"
    "{{ '<|assistant|>' + c.function.name + '\n' + c.function.arguments | tojson }}{% endfor %}"
    "{% elif m.role == 'tool' %}{{ '<|observation|>\n' + m.content }}"
    "{% else %}{{ '<|' + m.role + '|>\n' + m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CHANNELS = (  # gpt-oss: <|end|> also ends a thought
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% if m.thinking %}{{ '<|start|>assistant<|channel|>analysis' + m.thinking + '<|end|>' }}"
    "{% endif %}{{ '<|start|>assistant' }}{% if m.tool_calls %}"
    "{{ m.tool_calls[0].function | tojson + '<|call|>' }}{% else %}"
    "{{ m.content + ('<|return|>' if loop.last else '<|end|>') }}{% endif %}"
    "{% else %}{{ '<|start|>' + m.role + m.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
TURN_END = (  # Phi-3: the end of the text follows the end of the turn
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
PLAIN_MARKS = (  # nothing but text between turns
    "{% for m in messages %}{{ '### ' + m.role + ': ' + m.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant: ' }}{% endif %}"
)
USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Paris."}


def with_tokens(tokenizer, template: str, *special: str, eos: str = "<|endoftext|>"):
    """A tokenizer with this template, these special tokens and this end token."""
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(text, special=True) for text in special])
    tokenizer.chat_template, tokenizer.eos_token = template, eos
    return tokenizer


def next_role(tokenizer):
    """A tokenizer whose template ends turns with the next role's mark."""
    return with_tokens(tokenizer, NEXT_ROLE, "<|user|>", "<|assistant|>", "<|observation|>")


def call(name: str, **arguments) -> dict:
    """An assistant's turn that calls one function."""
    function = {"name": name, "arguments": arguments}
    calls = [{"id": "abcdefghi", "type": "function", "function": function}]
    return {"role": "assistant", "content": "", "tool_calls": calls}
