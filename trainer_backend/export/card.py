"""The model card of an export: metadata for the Hub, base model, data, code, its evaluation."""

from huggingface_hub import EvalResult, ModelCardData

from trainer_backend.evaluation import shown
from trainer_backend.evaluation.results import Evaluation, evaluations_of
from trainer_backend.models import hub_id, snippet
from trainer_backend.runs import Run

MADE_BY = "Made with SFT Studio."
LIBRARIES = {"adapter": "peft", "merged": "transformers", "gguf": "gguf"}


def model_card(run: Run, format: str, folder: str, step: int | None = None) -> str:
    """The card as Markdown, with the metadata block that the Hub reads (none for a script).

    `step` is the checkpoint that was exported (None: the run's result); its evaluation is shown.
    """
    recipe, spec = run.recipe(), run.spec()
    is_model = format in LIBRARIES
    found = _evaluation(run, step) if is_model else None
    head = _head(run, format, found) if is_model else ""
    language = "python" if format in ("adapter", "merged") else "sh"
    return (
        f"{head}# {run.name()}\n\nBase model: {recipe.base_model}. Data: "
        f"{spec['dataset']['name']}, {spec['dataset']['num_examples']:,} rows. "
        f"{MADE_BY}\n\n```{language}\n{snippet(recipe, format, folder)}```\n"
        f"{_section(found) if found else ''}"
    )


def _evaluation(run: Run, step: int | None) -> Evaluation | None:
    """The evaluation of the exported checkpoint: the newest on held-out rows, or else any."""
    result = run.result()
    wanted = result.step if step is None and result else step
    found = [one for one in evaluations_of(run) if one.checkpoint == wanted]
    return next((one for one in found if one.held_out), found[0] if found else None)


def _head(run: Run, format: str, found: Evaluation | None) -> str:
    data = ModelCardData(
        base_model=hub_id(run.recipe().base_model),
        library_name=LIBRARIES[format],
        pipeline_tag="text-generation",
        model_name=run.name() if found else None,
        eval_results=_results(found) if found else None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


def _results(found: Evaluation) -> list[EvalResult]:
    """The values of the tuned model as the Hub lists them; scores run from 0 to 1."""
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type="held-out rows" if found.held_out else "rows",
            dataset_name=found.dataset or "not named",
            metric_type=name,
            metric_name=shown.measure_label(name),
            metric_value=metric.tuned,
        )
        for name, metric in found.metrics.items()
    ]


def _section(found: Evaluation) -> str:
    """The evaluation in words and as a table, with the numbers that the page shows."""
    rows = [(one.label, one.base, one.tuned, one.interval) for one in shown.lines(found)]
    said = " ".join([*found.warnings, found.sentence])
    parts = [
        f"\n## Evaluation\n\n{said}\n\nOn {shown.rows_in_words(found)}. "
        f"Verdict: {found.verdict}.\n",
        _table([shown.HEADERS, *rows]),
    ]
    if found.harness:
        heads = ("lm-eval", "Measure", "Base", "Tuned", "Standard error")
        parts.append(_table([heads, *shown.harness_lines(found)]))
    return "\n".join(parts)


def _table(rows: list[tuple[str, ...]]) -> str:
    head, *body = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body, ""])
