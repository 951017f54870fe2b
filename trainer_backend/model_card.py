"""The page that goes with an export: what it is, the code that loads it. Files are export.py."""

from .recipe import Recipe
from .runs import Run

ADAPTER_CODE = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

folder = {folder!r}
model = AutoPeftModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
"""
MERGED_CODE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = {folder!r}
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
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
    """Python that loads an export with plain transformers and peft and asks it something.

    `folder` is where it was unpacked; without one it is called “adapter” or “merged”.
    """
    messages = [{"role": "user", "content": "Hello!"}]
    if recipe.system_prompt:
        messages.insert(0, {"role": "system", "content": recipe.system_prompt})
    head = ADAPTER_CODE if format == "adapter" else MERGED_CODE
    return head.format(folder=folder or format) + ASK_CODE.format(messages=messages)


def model_card(run: Run, format: str, folder: str) -> str:
    """The README of an export, with the metadata block that the Hub reads."""
    recipe, spec = run.recipe(), run.spec()
    return (
        f"---\nlibrary_name: {'peft' if format == 'adapter' else 'transformers'}\n"
        f"base_model: {recipe.base_model}\npipeline_tag: text-generation\n---\n\n"
        f"# {run.name()}\n\nBase model: {recipe.base_model}. Data: {spec['dataset']['name']}, "
        f"{spec['dataset']['num_examples']:,} rows. Made with SFT Studio.\n\n"
        f"```python\n{snippet(recipe, format, folder)}```\n"
    )
