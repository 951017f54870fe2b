"""What a run says and asks about its rows: those refused, and content that the template omits.

Rows are named by their numbers in the file. What a row loses is found elsewhere.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase as Tokenizer

from trainer_backend.data.checks import KINDS, content_findings, is_set, loses
from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import TrainingDataError, UserError
from trainer_backend.runs import RunWriter
from trainer_backend.tokens.chat_template import template_arguments, template_of
from trainer_backend.tokens.encode import encode, prompt_ids
from trainer_backend.tokens.prepare import Counts
from trainer_backend.tokens.refusals import ContentLost, RowsRefused
from trainer_backend.tokens.training_rows import training_row
from trainer_backend.worker.facts import RunFacts

FIRST = 20  # rows listed in the run's state
MEASURED = 500  # rows whose prompts are compared with what is trained
NO_ROWS = np.empty(0, np.int64)


@contextmanager
def rows_of_the_file(dataset: StoredDataset, places: Mapping[str, np.ndarray]) -> Iterator[None]:
    """Let errors about rows name them as the file numbers them, and offer what helps.

    `places` are the indices in the dataset of the rows in each part (“train”, “eval”).
    """
    try:
        yield
    except (RowsRefused, ContentLost) as error:
        rows, offer = file_rows(dataset, places, error.rows), error.offer
        where = [dataset.name, dataset.in_words(rows)]
        if isinstance(error, RowsRefused):
            where += [error.place] if error.place else []
            all_refused = any(len(at) >= len(places[name]) for name, at in error.rows.items())
            offer = None if all_refused and error.code == "rows_refused" else offer
        raise UserError(
            error.what, ", ".join(where), error.fix, code=error.code, offer=offer
        ) from error


def file_rows(
    dataset: StoredDataset, places: Mapping[str, np.ndarray], at: Mapping[str, Any]
) -> np.ndarray:
    """The numbers in the file of the rows `at` these positions of the parts, ascending."""
    numbers = dataset.row_numbers()
    found = [numbers[places[name][np.asarray(rows, np.int64)]] for name, rows in at.items()]
    return np.sort(np.concatenate([NO_ROWS, *found]))


def record_content(
    counts: Mapping[str, Counts], mended: tuple[str, ...], facts: RunFacts, writer: RunWriter
) -> None:
    """Warn about content that training rows and held-out rows lose, and note the decision."""
    decided = facts.recipe.lost_content
    given = {name: one for name, one in counts.items() if name in ("train", "eval")}
    dataset, places = facts.dataset, facts.places
    left_out = file_rows(dataset, places, {name: one.left_out for name, one in given.items()})
    refused = file_rows(dataset, places, {name: one.refused for name, one in given.items()})
    flags = np.concatenate([one.content for one in given.values()] or [NO_ROWS])
    rows = _numbers(facts, {name: one.content for name, one in given.items()})
    trained = ~np.isin(rows, np.concatenate([left_out, refused]))
    for kind, which in content_findings(flags[trained], mended, decided):
        if kind.code != "no_stop":  # said with the numbers of training rows
            where = facts.dataset.in_words(np.sort(rows[trained][which]))
            writer.warn(f"{kind.what.replace('these rows', where)} {kind.fix}")
    if len(left_out):
        kinds = [kind for kind in KINDS if is_set(flags, kind, "lost").any()]
        names = " or ".join(KINDS[kind] for kind in kinds)
        why = f"the chat template writes none of the {names}"
        writer.warn(f"{_left_out(facts, left_out)}: {why}.")
    if len(refused):
        writer.warn(f"{_left_out(facts, refused)}: the chat template refuses them.")
    if loses(flags).any() or len(refused):
        lost = _lost(flags, rows)
        out = {"left_out": _facts(left_out), "refused": _facts(refused)}
        writer.update(now=True, content={"decision": decided, "lost": lost, **out})


@contextmanager
def asked_about(facts: RunFacts, writer: RunWriter) -> Iterator[None]:
    """rows_of_the_file() for a run; content that is lost is also noted in the run's state."""
    try:
        with rows_of_the_file(facts.dataset, facts.places):
            yield
    except UserError as error:
        if isinstance(error.__cause__, ContentLost):
            parts = error.__cause__.content
            rows = _numbers(facts, parts)
            lost = _lost(np.concatenate([*parts.values()]), rows)
            writer.update(now=True, content={"decision": "ask", "lost": lost})
        raise


def _lost(flags: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    lost = {kind: rows[is_set(flags, kind, "lost")] for kind in KINDS}
    return {kind: _facts(at) for kind, at in lost.items() if len(at)}


def _numbers(facts: RunFacts, flags: Mapping[str, np.ndarray]) -> np.ndarray:
    """The numbers in the file of all rows that have flags, in their order."""
    numbers, places = facts.dataset.row_numbers(), facts.places
    parts = [numbers[places[name][: len(part)]] for name, part in flags.items()]
    return np.concatenate([NO_ROWS, *parts])


def _left_out(facts: RunFacts, rows: np.ndarray) -> str:
    words = facts.dataset.in_words(rows)
    return f"{words[0].upper()}{words[1:]} {'is' if len(rows) == 1 else 'are'} left out"


def _facts(rows: np.ndarray) -> dict[str, Any]:
    return {"rows": len(rows), "first": np.sort(rows)[:FIRST].tolist()}


# The prompts of chat and evaluation


def record_prompts(facts: RunFacts, tokenizer: Tokenizer, writer: RunWriter) -> None:
    """Measure on held-out rows whether the chat prompt is how the trained tokens begin.

    Without held-out rows those of training are measured. Warns about rows that begin otherwise.
    """
    at = facts.held_out_at if len(facts.held_out_at) else facts.train_at
    numbers, rows = facts.dataset.row_numbers(), 0
    other: list[int] = []
    for place, example in zip(at, facts.dataset.examples(at[:MEASURED].tolist()), strict=False):
        row = training_row(example, facts.recipe.system_prompt, facts.dataset)
        same = None if "images" in row else _asked_as_trained(row, tokenizer, facts)
        if same is not None:
            rows += 1
            other += [] if same else [numbers[place]]
    if not rows:
        return
    writer.update(now=True, prompts={"rows": rows, "prefix": rows - len(other)})
    if other:
        where = facts.dataset.in_words(np.sort(np.array(other, np.int64)))
        writer.warn(
            f"Chat and evaluation ask with another beginning than {len(other):,} of {rows:,} "
            f"measured rows have in training ({where}): the chat template writes the prompt of an "
            "answer otherwise than the same messages before a finished one."
        )


def _asked_as_trained(row: dict[str, Any], tokenizer: Tokenizer, facts: RunFacts) -> bool | None:
    """Whether the prompt of a row's last answer begins its tokens; None without such an answer."""
    messages, recipe = row.get("messages") or [], facts.recipe
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        return None
    options = {"thinking": recipe.thinking, "template_date": facts.started_on}
    older = {"as_written": facts.is_older, "lost_content": "train_without"}
    tools = row.get("tools")
    given = template_arguments(template_of(tokenizer, tools), recipe.thinking, facts.started_on)
    try:
        trained = encode(row, tokenizer, **options, **older).input_ids
        prompt = prompt_ids(messages[:-1], tokenizer, tools=tools, **given)
    except (TrainingDataError, TemplateError, TypeError):
        return None  # training has named the row
    return trained[: len(prompt)] == prompt
