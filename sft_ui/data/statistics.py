"""Statistics of a dataset as small charts: roles, turns, answer lengths, languages.

The numbers are stored with the dataset; nothing is counted here.
"""

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from sft_ui import markup
from trainer_backend.data.checks import Lengths, Statistics

MAX_BARS, FEWEST_BARS = 8, 3
HEIGHT, BAR, GAP = 96, 20, 3
UNKNOWN = "unknown"


def statistics_cards(found: Statistics | None) -> Markup | str:
    """All cards; "" for a dataset without statistics."""
    if found is None or not found.rows:
        return ""
    pieces = [
        _roles(found),
        _measures("Answers per conversation", _turns(found.turns)) if len(found.turns) > 1 else "",
        _lengths("Answer length", found.answers, found.edges),
        _languages(found),
    ]
    return Markup('<div class="stats">{}</div>').format(Markup().join(pieces))


def _turns(turns: dict[str, int]) -> list[tuple[str, int]]:
    """(answers per conversation, rows); the longest conversations are joined."""
    counts = sorted((int(key), count) for key, count in turns.items())
    if len(counts) <= MAX_BARS:
        return [(_answers(key), count) for key, count in counts]
    most = counts[MAX_BARS - 2][0]
    rest = sum(count for key, count in counts if key > most)
    shown = [(_answers(key), count) for key, count in counts if key <= most]
    return [*shown, (f"{most + 1:,} or more", rest)]


def _answers(count: int) -> str:
    return "1 answer" if count == 1 else f"{count:,} answers"


def _languages(found: Statistics) -> Markup | str:
    """Languages of the answers as bars, and of the prompts in words where they differ."""
    answers = found.answer_languages
    if not set(answers) - {UNKNOWN}:
        return ""
    note: Markup | str = ""
    if found.prompt_languages and found.prompt_languages != answers:
        note = markup.line(f"Prompts: {language_counts(found.prompt_languages)}.", "quiet")
    return markup.card("Answer languages", _bars(_spoken(answers), found.rows), note)


def language_counts(languages: dict[str, int]) -> str:
    """How many texts are in which language: “236 English, 66 German, 9 not clear”."""
    return ", ".join(f"{count:,} {name}" for name, count in _spoken(languages))


def _spoken(languages: dict[str, int]) -> list[tuple[str, int]]:
    shown = [(name if name != UNKNOWN else "not clear", n) for name, n in languages.items()]
    if len(shown) <= MAX_BARS:
        return shown
    rest = sum(count for _, count in shown[MAX_BARS - 1 :])
    return [*shown[: MAX_BARS - 1], ("other or not clear", rest)]


def _roles(found: Statistics) -> Markup | str:
    """Messages by role, with a note where all conversations have as many answers."""
    same = next(iter(found.turns), "") if len(found.turns) == 1 else ""
    note = markup.line(f"Every row has {_answers(int(same))}.", "quiet") if same else ""
    return _measures(f"{found.messages:,} messages", found.roles.items(), note)


def _measures(
    title: str, pairs: Iterable[tuple[str, int]], note: Markup | str = ""
) -> Markup | str:
    known = [(name, count) for name, count in pairs if count]
    return markup.card(title, _bars(known, sum(n for _, n in known)), note) if known else ""


def _bars(pairs: Sequence[tuple[str, int]], total: int) -> Markup:
    """One bar per name, as long as its share."""
    most = max(count for _, count in pairs)
    rows = markup.each(
        Markup('<span>{}</span><i style="width:{:.1f}%"></i><b>{:,} · {}</b>'),
        ((name, 100 * count / most, count, share(count, total)) for name, count in pairs),
    )
    return Markup('<div class="measure">{}</div>').format(rows)


def share(count: int, total: int) -> str:
    """A share in percent, never rounded to 0% or 100%."""
    percent = 100 * count / total if total else 0
    if 0 < percent < 1:
        return "under 1%"
    if 99 < percent < 100:
        return "over 99%"
    return f"{percent:.0f}%"


def _lengths(title: str, lengths: Lengths, edges: Sequence[int]) -> Markup | str:
    """A histogram with one bar per range of lengths, in characters."""
    filled = [at for at, count in enumerate(lengths.counts) if count]
    if not filled:
        return ""
    first = filled[0]
    bars = list(enumerate(lengths.counts))[first : filled[-1] + 1]
    if len(bars) < FEWEST_BARS:
        return markup.card(title, markup.line(_usual(lengths)))
    chart = _histogram([(_range(edges, at), count) for at, count in bars])
    ends = Markup(
        '<div class="stats-ends"><span>{:,}</span><span>{:,} characters</span></div>'
    ).format(edges[first], lengths.longest)
    return markup.card(title, chart, ends, markup.line(_usual(lengths), "quiet"))


def _usual(lengths: Lengths) -> str:
    middle = f"Median {lengths.median:,} characters, 95th percentile {lengths.p95:,}"
    return f"{middle}, longest {lengths.longest:,}."


def _range(edges: Sequence[int], at: int) -> str:
    if at + 1 == len(edges):
        return f"{edges[at]:,} characters or more"
    if edges[at + 1] - edges[at] == 1:
        return f"{edges[at]:,} characters"
    return f"{edges[at]:,} to {edges[at + 1] - 1:,} characters"


def _histogram(bars: Sequence[tuple[str, int]]) -> Markup:
    most = max(count for _, count in bars)
    width = max(4, len(bars)) * (BAR + GAP)
    rects = Markup().join(_rect(at, words, count, most) for at, (words, count) in enumerate(bars))
    label = "; ".join(f"{words}: {count:,}" for words, count in bars if count)
    template = Markup(
        '<svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    )
    return template.format(width, HEIGHT, label, rects)


def _rect(at: int, words: str, count: int, most: int) -> Markup:
    height = max(1.5, (HEIGHT - 4) * count / most) if count else 0
    template = Markup(
        '<rect x="{}" y="{:.1f}" width="{}" height="{:.1f}"><title>{}: {:,} rows</title></rect>'
    )
    return template.format(at * (BAR + GAP), HEIGHT - height, BAR, height, words, count)
