"""The sizes of a model, read from its config.json; no weights are opened for it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Sizes of a causal language model. Counts of parameters include every layer once."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    body: int  # parameters of the decoder layers (of experts: all of them)
    active: int  # of these: used for one token (less than `body` with experts)
    embedding: int  # parameters of the embedding and of a head with weights of its own
    tied: bool  # the head shares the weights of the embedding
    linear: tuple[tuple[str, int, int], ...]  # (name, in, out) of one layer's linear modules

    @property
    def parameters(self) -> int:
        return self.body + self.embedding
