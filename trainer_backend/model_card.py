"""The README of an export: what it is, and the code that uses it."""

from .runs import Run
from .snippets import snippet

MADE_BY = "Made with SFT Studio."
LIBRARIES = {"adapter": "peft", "merged": "transformers", "gguf": "gguf"}


def model_card(run: Run, format: str, folder: str) -> str:
    """The README of an export, with the metadata block that the Hub reads."""
    recipe, spec = run.recipe(), run.spec()
    head = ""
    if format in LIBRARIES:
        head = (
            f"---\nlibrary_name: {LIBRARIES[format]}\nbase_model: {recipe.base_model}\n"
            "pipeline_tag: text-generation\n---\n\n"
        )
    language = "python" if format in ("adapter", "merged") else "sh"
    return (
        f"{head}# {run.name()}\n\nBase model: {recipe.base_model}. Data: "
        f"{spec['dataset']['name']}, {spec['dataset']['num_examples']:,} rows. "
        f"{MADE_BY}\n\n```{language}\n{snippet(recipe, format, folder)}```\n"
    )
