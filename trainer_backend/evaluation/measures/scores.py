"""One answer against the expected one, by a measure's name."""

from trainer_backend.evaluation.measures.json_answers import json_fields, json_of, json_valid
from trainer_backend.evaluation.measures.labels import label_key, label_of
from trainer_backend.evaluation.measures.overlap import chrf, contains, rouge_l, token_f1
from trainer_backend.evaluation.measures.words import plain
from trainer_backend.models.loaded.answer_parts import Answer, same_answer

TEXT_MEASURES = {"contains": contains, "token_f1": token_f1, "chrf": chrf, "rouge_l": rouge_l}
MEASURE_LABELS = {
    "exact_match": "Exact match",
    "contains": "Contains",
    "token_f1": "Token F1",
    "chrf": "chrF",
    "rouge_l": "ROUGE-L",
    "json_valid": "JSON valid",
    "json_fields": "JSON fields",
    "label_f1": "Label F1",
    "tool_call_match": "Tool calls",
}
MEASURES = tuple(MEASURE_LABELS)
MEASURE_MEANS = {
    "exact_match": "The answer is the expected one, character for character; calls as objects.",
    "contains": "The expected text stands in the answer as whole words, whatever is around it.",
    "token_f1": "F1 of the words the answer shares with the expected one (as in SQuAD).",
    "chrf": "chrF2 of sacrebleu, over 100: shared runs of up to six characters.",
    "rouge_l": "ROUGE-L: F1 of the longest sequence of words that both have in the same order.",
    "json_valid": "The whole answer can be read as a JSON object or list.",
    "json_fields": "The share of fields with the right value; extra fields count against it.",
    "label_f1": "Macro F1: the mean of each label's F1, so that rare labels count as much.",
    "tool_call_match": "The calls of tools are the expected ones, name and arguments; in a row "
    "that expects none, none is made.",
    "loss": "Cross-entropy per token of the expected answers; lower is better.",
    "perplexity": "The exponential of the loss; lower is better.",
}


def score_answer(
    name: str, given: Answer, expected: Answer, labels: tuple[str, ...] = ()
) -> float | None:
    """The score of one answer by one measure, from 0 to 1.

    None if the measure says nothing about this row, which depends on the expected answer alone:
    measures of text where no text is expected, of JSON where it is no object or list, `label_f1`
    where it is none of the `labels`. Raises KeyError for a name that is no measure.

    `tool_call_match`: all calls with their arguments, in any order, or 0; a row that expects no
    call has 1 if none was made and 0 otherwise. `label_f1` is right or wrong here; the macro F1 is
    one of many rows.
    """
    if name == "exact_match":
        return float(same_answer(_plain(given), _plain(expected)))
    if name == "tool_call_match":
        return float(same_answer(Answer("", "", given.calls), Answer("", "", expected.calls)))
    if name == "label_f1":
        return _label(given, expected, labels)
    if name in ("json_valid", "json_fields"):
        value = json_of(expected.content)
        if value is None:
            return None
        return (
            json_valid(given.content) if name == "json_valid" else json_fields(given.content, value)
        )
    score = TEXT_MEASURES[name]
    return score(given.content, expected.content) if expected.content.strip() else None


def _label(given: Answer, expected: Answer, labels: tuple[str, ...]) -> float | None:
    if not labels:
        return float(label_key(given.content) == label_key(expected.content))
    right = label_of(expected.content, labels)
    if right is None or expected.calls:
        return None
    return float(not given.calls and label_of(given.content, labels) == right)


def _plain(answer: Answer) -> Answer:
    return Answer(plain(answer.content), "", answer.calls)
