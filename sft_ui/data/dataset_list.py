"""The list of stored datasets as HTML, with buttons to open, delete and mix them."""

from markupsafe import Markup

from sft_ui import markup
from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import UserError

MAX_SHOWN = 60
MIX_LINE = Markup(
    '<div class="mix-line"><input type="text" data-name="1" maxlength="120" '
    'placeholder="Mix name" aria-label="Mix name">'
    '<button type="button" class="action" data-mix="1" disabled>'
    "To mix, give two datasets a weight</button></div>"
)


def dataset_list(datasets: list[StoredDataset], shown: str) -> Markup:
    """All stored datasets, newest first; `shown` is the id of the current one."""
    if not datasets:
        return markup.empty("No stored datasets yet", "Datasets you load are kept here.")
    rows = Markup().join(_row(one, one.id == shown) for one in datasets[:MAX_SHOWN])
    more = len(datasets) - MAX_SHOWN
    note = markup.line(f"{more} older datasets are not shown.", "quiet") if more > 0 else ""
    return Markup('<div class="card stored"><ul>{}</ul>{}{}</div>').format(rows, note, MIX_LINE)


def _row(one: StoredDataset, here: bool) -> Markup:
    weight = Markup(
        '<label class="weight"><span class="visually-hidden">Weight of {} in a mix</span>'
        '<input type="number" min="0" step="any" placeholder="weight" data-weight="{}">'
        "<i></i></label>"
    ).format(one.label, one.id)
    template = Markup(
        '<li{mark}><div class="stored-name"><button type="button" data-open="{key}">{label}'
        '</button><span class="quiet">{facts}</span></div>{weight}'
        '<button type="button" class="action small careful" data-remove="{key}">Delete'
        '<span class="visually-hidden"> {label}</span></button></li>'
    )
    return template.format(
        mark=Markup(' aria-current="true"') if here else "",
        key=one.id,
        label=one.label,
        facts=f"{one.num_examples:,} examples · {one.created_at[:10]}",
        weight=weight if one.num_examples else "",
    )


def read_weights(weights: object) -> list[tuple[str, float]]:
    """(dataset id, weight) of each weight above 0. Raises UserError for fewer than two."""
    known = weights if isinstance(weights, dict) else {}
    found = [
        (str(key), float(value))
        for key, value in known.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    ]
    if len(found) < 2:
        fix = "Enter a number above 0 next to at least two datasets."
        raise UserError("A mix needs at least two datasets with a weight.", "Stored datasets", fix)
    return found
