"""What the user must fix, in words: one exception and one finding.

Nothing is caught or shown here: that is done at the page's edge and the command line's edge.
"""

from dataclasses import asdict, dataclass


class UserError(Exception):
    """Something the user can fix: what happened, where, and how to fix it (all three filled)."""

    def __init__(self, what: str, where: str, fix: str):
        if not (what and where and fix):
            raise ValueError("UserError needs what, where and fix")
        super().__init__(f"{what} ({where}) {fix}")
        self.what, self.where, self.fix = what, where, fix

    def to_dict(self) -> dict[str, str]:
        """The three parts as plain data, for state files and JSON output."""
        return {"what": self.what, "where": self.where, "fix": self.fix}


@dataclass(frozen=True)
class Problem:
    """One finding of a check. `rows` are the first row numbers, `count` is how many there are."""

    severity: str  # "error" stops a start, "warning" is shown, "info" is said
    what: str
    where: str
    fix: str
    rows: tuple[int, ...] = ()
    count: int = 0

    def to_dict(self) -> dict:
        """Plain data with the keys of the `check --json` output."""
        return {**asdict(self), "rows": list(self.rows)}
