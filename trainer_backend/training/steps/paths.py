"""Which way a run computes, told once in words: kernels, merged batches, fallbacks.

Nothing is chosen here; whoever chooses says so.
"""

from collections.abc import Callable


class PathsTaken:
    """Sentences on how a run computes; `tell` is called once with each."""

    def __init__(self, tell: Callable[[str], None]):
        self.sentences: list[str] = []
        self._tell = tell

    def say(self, sentence: str) -> None:
        """Tell the sentence unless it was told before."""
        if sentence not in self.sentences:
            self.sentences.append(sentence)
            self._tell(sentence)
