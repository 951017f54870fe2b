"""Why one row cannot be trained on, in words; nothing is decided here."""


class RowError(Exception):
    """Why one row cannot be used, and how to fix it. `what` is the same for all rows alike."""

    def __init__(self, what: str, fix: str):
        super().__init__(what)
        self.what, self.fix = what, fix
