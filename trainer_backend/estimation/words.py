"""An estimate in words, for the page and the terminal: gigabytes, minutes, and the verdict."""

from trainer_backend.estimation.estimate import Estimate, Range
from trainer_backend.hardware import Hardware

MINUTE, HOUR, DAY = 60, 3600, 86_400


def gigabytes(amount: float) -> str:
    """“0.4 GB”, “12 GB”, “under 0.1 GB”."""
    if 0 < amount < 0.05:
        return "under 0.1 GB"
    return f"{_figure(amount)} GB"


def gigabyte_range(amount: Range) -> str:
    """“2.1 to 2.6 GB”; one figure where both ends read the same."""
    low, high = _figure(amount.low), _figure(amount.high)
    return gigabytes(amount.high) if low == high else f"{low} to {high} GB"


def _figure(amount: float) -> str:
    return f"{amount:,.1f}" if amount < 9.95 else f"{amount:,.0f}"


def duration_range(seconds: Range) -> str:
    """“2 to 4 minutes”, “50 minutes to 2 hours”; one figure where both ends read the same."""
    low, high = _duration(seconds.low), _duration(seconds.high)
    if low == high:
        return high
    (first, unit), (_, same) = low.split(), high.split()
    return f"{first if unit.rstrip('s') == same.rstrip('s') else low} to {high}"


def _duration(seconds: float) -> str:
    """“45 seconds”, “3 minutes”, “1.5 hours”, “4 days”: as exact as an estimate is."""
    if seconds < 45:
        return _counted(max(5, round(seconds / 5) * 5), "second")
    if seconds < 55 * MINUTE:
        return _counted(max(1, round(seconds / MINUTE)), "minute")
    if seconds < 20 * HOUR:
        return _counted(round(seconds / HOUR * 2) / 2 or 1, "hour")
    return _counted(round(seconds / DAY * 2) / 2 or 1, "day")


def _counted(number: float, unit: str) -> str:
    return f"{number:g} {unit}{'' if number == 1 else 's'}"


def verdict(found: Estimate) -> str:
    """“Fits this machine”, “Tight on this machine”, “Too large for this machine”, or not known."""
    if found.fits is None or found.memory_gb is None:
        return "Memory is not known yet"
    if not found.fits:
        return "Too large for this machine"
    return f"{'Tight on' if is_tight(found) else 'Fits'} this machine"


def is_tight(found: Estimate) -> bool:
    """Whether it fits as far as is likely, but might not."""
    return bool(found.fits and found.memory_gb and found.memory_gb.high > found.memory_free_gb)


def memory_words(found: Estimate, machine: Hardware | None = None) -> str:
    """“2.1 to 2.6 GB of memory, 19 GB free”; "" when it is not known."""
    if found.memory_gb is None:
        return ""
    kind = "GPU memory" if machine is not None and machine.kind == "cuda" else "memory"
    needed, free = gigabyte_range(found.memory_gb), gigabytes(found.memory_free_gb)
    return f"{needed} of {kind}, {free} free"
