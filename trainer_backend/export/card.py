"""The model card of an export: metadata for the Hub, base model, data, code that loads it."""

from huggingface_hub import ModelCardData

from trainer_backend.models import hub_id, snippet
from trainer_backend.runs import Run

MADE_BY = "Made with SFT Studio."
LIBRARIES = {"adapter": "peft", "merged": "transformers", "gguf": "gguf"}


def model_card(run: Run, format: str, folder: str) -> str:
    """The card as Markdown, with the metadata block that the Hub reads (none for a script)."""
    recipe, spec = run.recipe(), run.spec()
    head = _head(recipe.base_model, format) if format in LIBRARIES else ""
    language = "python" if format in ("adapter", "merged") else "sh"
    return (
        f"{head}# {run.name()}\n\nBase model: {recipe.base_model}. Data: "
        f"{spec['dataset']['name']}, {spec['dataset']['num_examples']:,} rows. "
        f"{MADE_BY}\n\n```{language}\n{snippet(recipe, format, folder)}```\n"
    )


def _head(base_model: str, format: str) -> str:
    data = ModelCardData(
        base_model=hub_id(base_model),
        library_name=LIBRARIES[format],
        pipeline_tag="text-generation",
    )
    return f"---\n{data.to_yaml()}\n---\n\n"
