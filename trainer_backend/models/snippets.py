"""Code snippets that use an exported model: Python for weights, shell commands for the rest."""

import shlex

from trainer_backend.recipe import Recipe

GGUF_FILE = "model-f16.gguf"
ADAPTER_CODE = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer, GenerationConfig

folder = {folder!r}
model = AutoPeftModelForCausalLM.from_pretrained(folder)
model.generation_config = GenerationConfig.from_pretrained(folder)  # where answers end
tokenizer = AutoTokenizer.from_pretrained(folder)
"""
MERGED_CODE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = {folder!r}
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
"""
VISION_CODE = """\
from transformers import AutoModelForImageTextToText, AutoProcessor

folder = {folder!r}
model = AutoModelForImageTextToText.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)
"""
GGUF_CODE = """\
# llama-cli is part of llama.cpp; Ollama, LM Studio and others open the same file
llama-cli --conversation{system} --model {file}
"""
SCRIPT_CODE = """\
# with SFT Studio's own folder on PYTHONPATH: the trainer is part of it
cd {folder}
pip install -r requirements.txt
python train.py
"""
ASK_CODE = """\

messages = {messages}
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
output = model.generate(**inputs, max_new_tokens=128)
print(tokenizer.decode(output[0][inputs["input_ids"].shape[1]:], skip_special_tokens=True))
"""


def snippet(recipe: Recipe, format: str, folder: str | None = None) -> str:
    """A snippet for an export of a run with this recipe.

    `format` is adapter, merged, gguf or script; `folder` is where it was unpacked (by default a
    folder named like the format).
    """
    folder = folder or format
    if format == "gguf":
        system = f" --system-prompt {shlex.quote(recipe.system_prompt)}"
        file = shlex.quote(f"{folder}/{GGUF_FILE}")
        return GGUF_CODE.format(system=system if recipe.system_prompt else "", file=file)
    if format == "script":
        return SCRIPT_CODE.format(folder=shlex.quote(folder))
    messages = [{"role": "user", "content": "Hello!"}]
    if recipe.system_prompt:
        messages.insert(0, {"role": "system", "content": recipe.system_prompt})
    head = ADAPTER_CODE if format == "adapter" else MERGED_CODE
    return head.format(folder=folder) + ASK_CODE.format(messages=messages)
