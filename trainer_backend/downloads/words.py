"""Bytes, speed and time left in words, the same on the page and in the terminal.

Sizes are decimal, as the Hub and browsers give them (1 GB = 10^9 bytes).
"""

UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


def size_in_words(size: float) -> str:
    """A size: “5.5 GB”, “93 MB”, “3 kB”."""
    unit, factor = _unit(size)
    return f"{_number(size / factor)} {unit}"


def bytes_in_words(done: float, total: float, speed: float | None = None) -> str:
    """“1.2 of 5.5 GB · 38 MB/s · about 2 min left”; `total` 0 stands for not known.

    `speed` is in bytes a second; None or 0: nothing is said of speed and time.
    """
    if not total:
        parts = [size_in_words(done)] if done else []
    else:
        unit, factor = _unit(total)
        parts = [f"{_number(min(done, total) / factor)} of {_number(total / factor)} {unit}"]
    if speed:
        parts.append(f"{size_in_words(speed)}/s")
        if total > done:
            parts.append(f"about {time_in_words((total - done) / speed)} left")
    return " · ".join(parts)


def time_in_words(seconds: float) -> str:
    """“40 s”, “2 min”, “3 h 10 min”, “2 days”."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        hours, rest = divmod(minutes, 60)
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{round(minutes / 1440)} days"


def _unit(size: float) -> tuple[str, int]:
    """The unit in which a size has at least one digit before the point."""
    for unit, factor in UNITS:
        if size >= 0.9995 * factor:
            return unit, factor
    return "kB", 10**3


def _number(value: float) -> str:
    return f"{value:.1f}" if 0.05 <= value < 9.95 else f"{value:,.0f}"
