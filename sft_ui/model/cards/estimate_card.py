"""The card of the estimate: verdict, memory and its parts, time, steps, download, and the fix.

It shows what it is given; nothing is estimated here.
"""

from collections.abc import Mapping

from markupsafe import Markup

from sft_ui import markup
from trainer_backend.estimation import NO_FIX, Estimate
from trainer_backend.estimation.words import (
    duration_range,
    gigabytes,
    is_tight,
    memory_words,
    verdict,
)
from trainer_backend.hardware import Hardware
from trainer_backend.recipe import changed_to, label

PARTS = {
    "weights": "Weights of the base model",
    "adapter": "Adapter",
    "optimizer": label("optim"),
    "gradients": "Gradients",
    "activations": "Activations",
    "logits": "Logits",
    "other": "Other",
}
SMALL_PART = 0.005  # of the whole: not listed
MARKS = {"yes": "✓", "tight": "!", "no": "✕", "unknown": "?"}
KINDS = {"yes": "good", "tight": "warning", "no": "error", "unknown": "info"}
INCLUDED = "Time includes evaluation, saving and the comparison with the base model."
FAILED = "The estimate could not be worked out. Training is not affected."
FIX_WORDS = "Use the settings that fit"


def fits_word(found: Estimate | None) -> str:
    """The value of data-fits: yes, no or unknown."""
    if found is None or found.fits is None:
        return "unknown"
    return "yes" if found.fits else "no"


def estimate_card(found: Estimate | None, machine: Hardware, reason: str = "") -> Markup:
    """The card; `reason` says why there is no estimate yet."""
    if found is None:
        return _frame("unknown", "No estimate", [markup.line(reason or FAILED)])
    kind = "tight" if is_tight(found) else fits_word(found)
    lead = memory_words(found, machine)
    body = [
        Markup('<p class="figure">{}</p>').format(lead) if lead else "",
        _bar(found),
        markup.facts(_facts(found)),
        _fix(found),
        *(markup.line(note, "quiet") for note in _notes(found)),
        markup.line(_based_on(found), "quiet"),
    ]
    return _frame(kind, verdict(found), body)


def _frame(kind: str, title: str, body: list[Markup | str]) -> Markup:
    template = Markup(
        '<div class="card problem estimate {}" data-fits="{}">'
        '<h3><i class="mark" aria-hidden="true">{}</i>{}</h3>{}</div>'
    )
    fits = "yes" if kind == "tight" else kind
    return template.format(KINDS[kind], fits, MARKS[kind], title, Markup().join(body))


def _notes(found: Estimate) -> list[str]:
    """The notes, without the one that says what would make it fit, or that nothing does."""
    said = changed_to(found.fix) if found.fix else NO_FIX
    return [note for note in found.notes if said not in note]


def _based_on(found: Estimate) -> str:
    said = found.based_on.strip().rstrip(".")
    based = f"{said}." if said[:1].isupper() else f"Based on {said}."
    return " ".join(filter(None, (based if said else "", INCLUDED if found.seconds else "")))


def _facts(found: Estimate) -> list[tuple[str, object]]:
    download = None
    if found.download_gb is not None:
        download = gigabytes(found.download_gb) if found.download_gb > 0 else "nothing"
    return [
        ("Time", duration_range(found.seconds) if found.seconds else "not known yet"),
        ("Steps", f"{found.steps:,}" if found.steps is not None else None),
        ("Tokens", f"{found.tokens:,}" if found.tokens is not None else None),
        ("Download", download),
        ("Disk", gigabytes(found.disk_gb) if found.disk_gb is not None else None),
    ]


def _bar(found: Estimate) -> Markup | str:
    """The parts of the memory as one bar, up to what is free or needed, and the largest by name."""
    parts = shown_parts(found.parts)
    if not parts or found.memory_gb is None:
        return ""
    needed, free = sum(found.parts.values()), found.memory_free_gb
    whole = max(needed, free) or 1.0
    pieces = markup.each(
        Markup('<span class="part-{}" style="width:{}%" title="{}: {}"></span>'),
        (
            (name, f"{100 * size / whole:.2f}", PARTS.get(name, name), gigabytes(size))
            for name, size in parts.items()
        ),
    )
    largest = max(parts, key=lambda name: parts[name])
    words = f"Largest part: {PARTS.get(largest, largest)}, {gigabytes(parts[largest])}"
    listed = markup.each(
        Markup('<li><i class="part-{}"></i>{}<b>{}</b></li>'),
        ((name, PARTS.get(name, name), gigabytes(size)) for name, size in parts.items()),
    )
    template = Markup(
        '<div class="memory-bar" role="img" aria-label="{}">{}'
        '<em style="left:{}%" title="{} free"></em></div>'
        '<details class="memory-parts"><summary class="quiet">{}</summary><ul>{}</ul></details>'
    )
    at = f"{min(100.0, 100 * free / whole):.2f}"
    return template.format(words, pieces, at, gigabytes(free), words, listed)


def shown_parts(parts: Mapping[str, float]) -> dict[str, float]:
    """The parts that are large enough to be seen, in the order of PARTS."""
    least = SMALL_PART * sum(parts.values())
    order = [*PARTS, *(name for name in parts if name not in PARTS)]
    return {name: parts[name] for name in order if parts.get(name, 0.0) > least}


def _fix(found: Estimate) -> Markup | str:
    """What would make it fit, and the button that does it; only where it does not fit."""
    if found.fits is not False:
        return ""
    if not found.fix:
        said = [note for note in found.notes if note.startswith(NO_FIX)]
        return markup.line(said[0] if said else f"{NO_FIX}. Choose a smaller base model.")
    template = Markup(
        '<p>Fits with {}.</p><button type="button" id="use-fix" class="action" data-act="fix">{}'
        "</button>"
    )
    return template.format(changed_to(found.fix), FIX_WORDS)
