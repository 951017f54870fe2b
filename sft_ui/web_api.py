"""The public web API. Every other event of the page is private.

Endpoints take ids and plain data (uploads excepted) and do what the buttons of the page do.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import gradio as gr

from sft_ui.alerts import answer_user_errors
from sft_ui.context import Studio
from trainer_backend.comparison.compare import compare_runs
from trainer_backend.data.formats import ROLE_NAMES, mapping_of
from trainer_backend.data.images import from_data_url, image_suffix, is_data_url
from trainer_backend.data.readers.options import OFFERED, ReadOptions
from trainer_backend.data.reading import start_reading
from trainer_backend.data.store import open_dataset
from trainer_backend.errors import UserError
from trainer_backend.estimation import estimate
from trainer_backend.evaluation.request import request_of
from trainer_backend.evaluation.shown import with_evaluations
from trainer_backend.recipe import recipe_from_request
from trainer_backend.recipe.recipe import parse_settings
from trainer_backend.runs import create_run, list_runs, open_run
from trainer_backend.runs.asking import asking_of, read_tools

EXAMPLES = {
    "recipe_json": '{"preset": "quick_try"}',
    "changes_json": '{"max_steps": 200}',
    "options_json": '{"columns": {"prompt": "Question", "completion": "Answer"}}',
    "evaluation options": '{"rows": 40, "checkpoint": "best"}',
}  # of the JSON objects that a script sends
EVALUATION_OPTIONS = "evaluation options"


def build_web_api(studio: Studio) -> None:
    """Register the public endpoints with the Blocks being built."""
    _files(studio)
    _training(studio)
    _reading(studio)
    _chat(studio)
    _evaluation(studio)


def _files(studio: Studio) -> None:
    @answer_user_errors
    def load_dataset(
        file: str | None, options_json: Any = "", more_files: list[str] | None = None
    ) -> dict:
        """Read and store a file; options_json says how, as {"columns": {"prompt": "Question"}}."""
        files = [Path(path) for path in ([file] if file else []) + (more_files or [])]
        if not files:
            raise UserError("No file was sent.", "/load_dataset", "Send one data file.")
        how = reading_options(options_json)
        dataset = start_reading(studio.home, files, **how).result()
        return {
            "dataset_id": dataset.id,
            "format": dataset.format,
            "sentence": dataset.sentence,
            "rows": dataset.num_rows,
            "columns": dataset.columns,
            "ignored_columns": dataset.ignored_columns,
            "problems": [problem.to_dict() for problem in dataset.problems],
        }

    @answer_user_errors
    def export_run(run_id: str, format: str) -> str:
        return str(studio.model_process.export(open_run(studio.home, run_id).id, format))

    with gr.Row(visible=False):
        upload, report = gr.File(label="file"), gr.JSON(label="dataset")
        options = gr.JSON({}, label="options_json")
        more = gr.File(label="more_files", file_count="multiple")
        run_id, format = gr.Textbox(label="run_id"), gr.Textbox(label="format", value="adapter")
        exported = gr.File(label="file")
        load, export = gr.Button("load_dataset"), gr.Button("export_run")
    given = [upload, options, more]
    load.click(load_dataset, given, report, api_name="load_dataset", concurrency_limit=4)
    export.click(export_run, [run_id, format], exported, api_name="export_run", concurrency_limit=2)


def _training(studio: Studio) -> None:
    @answer_user_errors
    def start_training(dataset_id: str, recipe_json: str) -> str:
        """Start a run on a stored dataset; recipe_json holds Recipe fields, optionally "preset"."""
        values = read_json_object(recipe_json)
        recipe = recipe_from_request(values)
        dataset = open_dataset(studio.home, dataset_id)
        run = create_run(studio.home, recipe, dataset, preset=values.get("preset"))
        studio.scheduler.wake()
        return run.id

    @answer_user_errors
    def estimate_run(dataset_id: str, recipe_json: str) -> dict:
        """What a run would take here: memory, seconds, steps, disk, and settings that would fit.

        Without a dataset_id every row is counted at the maximum length.
        """
        recipe = recipe_from_request(read_json_object(recipe_json))
        dataset = open_dataset(studio.home, dataset_id) if dataset_id else None
        return estimate(recipe, dataset, home=studio.home).to_dict()

    @answer_user_errors
    def stop_training(run_id: str) -> str:
        """Stop a run; its progress is saved in a checkpoint."""
        studio.scheduler.stop(run_id)
        return open_run(studio.home, run_id).state()["state"]

    @answer_user_errors
    def resume_training(run_id: str, changes_json: str = "") -> str:
        """Resume a stopped, paused or failed run; {"max_steps": 200} also extends it."""
        studio.scheduler.resume(run_id, read_json_object(changes_json, "changes_json"))
        return open_run(studio.home, run_id).state()["state"]

    for function in (start_training, stop_training, resume_training):
        gr.api(function, api_name=function.__name__, concurrency_limit=4)
    gr.api(estimate_run, api_name="estimate", concurrency_limit=4)


def _reading(studio: Studio) -> None:
    @answer_user_errors
    def run_status(run_id: str) -> dict:
        """Status of a run: state, step, total_steps, loss, eval_loss, evaluations and more."""
        return public(with_evaluations(open_run(studio.home, run_id), examples=False))

    @answer_user_errors
    def run_metrics(run_id: str, since: int = 0) -> list[dict]:
        """The rows of a run's metrics after the first `since` rows."""
        return open_run(studio.home, run_id).metrics(row_number(since))

    def list_all() -> list[dict]:
        """All runs, newest first."""
        return [public(with_evaluations(run, examples=False)) for run in list_runs(studio.home)]

    @answer_user_errors
    def compare(run_ids_json: str) -> dict:
        """2 to 6 runs beside each other; run_ids_json is a JSON list of run ids."""
        return compare_runs(studio.home, read_ids(run_ids_json)).to_dict()

    gr.api(compare, api_name="compare_runs", concurrency_limit=4)
    gr.api(run_status, api_name="run_status", concurrency_limit=8)
    gr.api(run_metrics, api_name="run_metrics", concurrency_limit=8)
    gr.api(list_all, api_name="list_runs", concurrency_limit=4)


def _chat(studio: Studio) -> None:
    @answer_user_errors
    def chat(  # noqa: PLR0913 - one argument a setting
        run_id: str,
        message: str,
        system: str | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        max_new_tokens: int = 256,
        tools: str | None = None,
        thinking: str | None = None,
        image: str | None = None,
    ) -> str:
        """The tuned model's answer to one message, asked as the run was trained.

        Left out, system text, tools (a JSON list; "" for none) and thinking ("auto", "on", "off")
        are the run's own. `image` is a data URL. Calls of tools are lines: name({"argument": 1}).
        """
        run = open_run(studio.home, run_id)
        asking = asking_of(run)
        text = asking.system if system is None else system
        messages: list[dict] = [{"role": "system", "content": text}] if text else []
        messages.append({"role": "user", "content": message})
        asked = {
            "tools": asking.given if tools is None else read_tools(tools, "tools"),
            "thinking": one_of_thinking(thinking or asking.thinking),
            "control_tokens": asking.control_tokens,
        }
        options = {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens}
        answer = ""
        with kept_image(image) as file:
            if file:
                messages[-1]["images"] = [file]
            for part in studio.model_process.chat(
                run.id, messages, which="tuned", asked=asked, **options
            ):
                answer = part["text"]
        return answer

    gr.api(chat, api_name="chat", concurrency_limit=4)


def _evaluation(studio: Studio) -> None:
    @answer_user_errors
    def evaluate_run(run_id: str, options_json: Any = "") -> Any:
        """Base and tuned model on the run's held-out rows; the result is kept with the run.

        options_json is {"dataset_id", "rows", "checkpoint", "metrics"}, all optional. The
        checkpoint “all” gives a list with one evaluation for each checkpoint that is kept.
        """
        run = open_run(studio.home, run_id)
        options = read_json_object(options_json, EVALUATION_OPTIONS)
        request_of(run, options).check(run)  # in words, before a process is started for it
        parts = studio.model_process.evaluate(run.id, **options)
        found = [part["evaluation"] for part in parts if "evaluation" in part]
        return found if options.get("checkpoint") == "all" else found[0]

    with gr.Row(visible=False):
        run_id, options = gr.Textbox(label="run_id"), gr.JSON({}, label="options_json")
        result, button = gr.JSON(label="evaluation"), gr.Button("evaluate_run")
    given = [run_id, options]
    button.click(evaluate_run, given, result, api_name="evaluate_run", concurrency_limit=2)


def reading_options(options_json: Any) -> dict[str, Any]:
    """The arguments of start_reading() that the options of /load_dataset mean.

    Raises UserError for an unknown option, and for a value of the wrong kind.
    """
    given, where = read_json_object(options_json, "options_json"), "options_json"
    kinds: dict[str, type] = {"columns": dict, "encoding": str, "delimiter": str, "sheet": str}
    kinds |= {"skip_damaged": bool, "chosen": bool, "header_row": int}
    for name, value in given.items():
        if name not in kinds:
            fix = f"Use {', '.join(kinds)}."
            raise UserError(f"Unknown option “{name[:60]}”.", where, fix)
        if value is not None and not isinstance(value, kinds[name]):
            words = {dict: "an object", str: "a text", bool: "true or false", int: "a number"}
            is_what = words[kinds[name]]
            raise UserError(f"“{name}” is not {is_what}.", where, f"Send {EXAMPLES[where]}.")
    options = {name: given[name] for name in (*OFFERED, "delimiter", "sheet") if given.get(name)}
    if options.get("delimiter") == "tab":
        options["delimiter"] = "\t"
    columns = {str(role): str(column) for role, column in (given.get("columns") or {}).items()}
    unknown = [role for role in columns if role not in ROLE_NAMES]
    if unknown:
        fix = f"Use {', '.join(ROLE_NAMES)}."
        raise UserError(f"Unknown role “{unknown[0][:60]}”.", "options_json, columns", fix)
    return {
        "mapping": mapping_of(columns, "options_json, columns") if columns else None,
        "options": ReadOptions(**options),
        "chosen": bool(given.get("chosen")),
    }


@contextmanager
def kept_image(url: str | None) -> Iterator[str | None]:
    """The picture of a data URL as a file for as long as it is needed; None without one.

    Raises UserError when it is no picture.
    """
    if not url:
        yield None
        return
    found = from_data_url(url) if is_data_url(url) else None
    if found is None:
        raise UserError("This is not a picture.", "image", "Send data:image/png;base64,….")
    with NamedTemporaryFile(suffix=image_suffix(found.data)) as file:
        file.write(found.data)
        file.flush()
        yield file.name


def one_of_thinking(value: str) -> str:
    """“auto”, “on” or “off”. Raises UserError for anything else."""
    return str(parse_settings({"thinking": value}, "thinking")["thinking"])


def read_json_object(value: str | dict | None, name: str = "recipe_json") -> dict:
    """A JSON object sent as text or as an object; nothing is {}.

    Raises UserError when it is anything else.
    """
    try:
        found = value if isinstance(value, dict) else json.loads(value or "{}")
    except (TypeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError("This is not a JSON object.", name, f"Send {EXAMPLES[name]}.")
    return found


def read_ids(value: str | list) -> list[str]:
    """A list of ids sent as JSON or as a list. Raises UserError when it is anything else."""
    try:
        found = value if isinstance(value, list) else json.loads(value)
    except (TypeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        example = '["run-0123456789ab", "run-ba9876543210"]'
        raise UserError("This is not a list of run ids.", "run_ids_json", f"Send {example}.")
    return found


def row_number(value: int | str | None) -> int:
    """`since` as a script sends it; nothing is 0. Raises UserError unless it is a number."""
    try:
        return max(0, int(value or 0))
    except (TypeError, ValueError, OverflowError):
        raise UserError("This is not a whole number.", "since", "Send 0 for all rows.") from None


def public(summary: dict) -> dict:
    """A run's summary without the path of its folder on the server."""
    return {name: value for name, value in summary.items() if name != "dir"}
