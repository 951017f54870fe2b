"""A model sharded over several machines (FSDP), as our worker trains it: bytes and seconds.

Formulas: ZeRO stage 3 (Rajbhandari and others, 2020) for what a device holds and sends; the ring
of Patarasuk and Yuan (2009) for collectives: each of N devices receives (N-1)/N of the bytes.
Nothing here was measured on such machines.
"""

from dataclasses import dataclass

GB = 1e9
ADAM, MASTER, GRADIENT, HALF = 8, 4, 4, 2  # bytes a weight: two averages, fp32, fp32, 16 bits
HASHED = 1.5e9  # bytes of sha256 a second of one core (measured, as in the estimate's constants)
REACHED = 0.40  # of the peak of the matrix units: what full training reached on one H200


@dataclass(frozen=True)
class Model:
    """A decoder: `linear` are (in, out) of one layer's matrices."""

    layers: int
    hidden: int
    vocabulary: int
    linear: tuple[tuple[int, int], ...]

    @property
    def layer(self) -> int:
        """Weights of one layer's matrices."""
        return sum(wide * out for wide, out in self.linear)

    @property
    def outside(self) -> int:
        """Weights of embedding and head, which are not tied."""
        return 2 * self.vocabulary * self.hidden

    @property
    def weights(self) -> int:
        return self.layers * self.layer + self.outside

    def adapter(self, rank: int) -> int:
        """Weights of LoRA matrices on every linear module."""
        return self.layers * rank * sum(wide + out for wide, out in self.linear)


# the sizes that Llama 3.1 70B publishes: 80 layers, 64 heads of 128, 8 of keys and values
_WIDE, _INNER, _KEYS = 8192, 28672, 1024
SEVENTY = Model(
    layers=80,
    hidden=_WIDE,
    vocabulary=128_256,
    linear=(
        *((_WIDE, _WIDE), (_WIDE, _KEYS), (_WIDE, _KEYS), (_WIDE, _WIDE)),
        *((_WIDE, _INNER), (_WIDE, _INNER), (_INNER, _WIDE)),
    ),
)


@dataclass(frozen=True)
class Cluster:
    """Machines with equal GPUs; rates in bytes a second, one direction."""

    nodes: int = 8
    each: int = 8
    inside: float = 450 * GB  # NVLink 4 of an H100: 900 GB/s in both directions together
    between: float = 50 * GB  # one connection of 400 Gb/s a machine
    products: float = 989e12  # bf16 operations a second of an H100 (data sheet, dense)
    disk: float = 2 * GB  # written by one process to a shared file system
    shared: float = 10 * GB  # read from it by all machines together
    internet: float = 1.25 * GB  # 10 Gb/s

    @property
    def devices(self) -> int:
        return self.nodes * self.each


@dataclass(frozen=True)
class Training:
    """Settings: all weights or an adapter of a rank, tokens of one device in a step."""

    model: Model
    cluster: Cluster
    tokens: int = 8192
    rank: int = 0  # 0: all weights
    checkpointing: bool = True

    @property
    def full(self) -> bool:
        return not self.rank

    @property
    def trained(self) -> int:
        return self.model.weights if self.full else self.model.adapter(self.rank)


def device_bytes(one: Training) -> dict[str, float]:
    """What one GPU holds, by part.

    Shards: (16 a trained weight, 2 a frozen one) / N. Gathered: two layers (one computes while the
    next arrives) and embedding with head, which FSDP keeps together after the forward pass, in 16
    bits; with all weights also one layer's gradients in fp32. Activations: the inputs of the
    layers, and 34 · hidden bytes a token of the layer that is computed again (Korthikanti and
    others 2022, table 2, without attention scores). Logits: the trainer's chunks of 512 MB, five
    copies.
    """
    model, devices = one.model, one.cluster.devices
    frozen = 0 if one.full else model.weights
    learned = (MASTER + GRADIENT + ADAM) * one.trained
    stream = MASTER if one.full else HALF  # bytes of a number between layers
    layers = model.layers * model.hidden * stream * one.tokens
    within = 34 * model.hidden * one.tokens
    return {
        "shards": (learned + HALF * frozen) / devices,
        "gathered": HALF * (2 * model.layer + model.outside) + one.full * GRADIENT * model.layer,
        "activations": layers + within if one.checkpointing else model.layers * within,
        "logits": 5 * 512 * 2**20,
    }


def wire_bytes(one: Training) -> dict[str, float]:
    """Bytes that one device receives in a step with one micro-batch.

    All-gather in the forward and again in the backward pass, in 16 bits; reduce-scatter of the
    trained weights' gradients, in fp32 (our policy: sums in 16 bits lose digits).
    """
    devices = one.cluster.devices
    share = (devices - 1) / devices
    return {
        "all-gather": 2 * share * HALF * one.model.weights,
        "reduce-scatter": share * GRADIENT * one.trained,
    }


def wire_seconds(one: Training) -> float:
    """The slower of the two ways the bytes go, which work at the same time.

    Between machines every machine receives (nodes-1)/nodes of a collective's bytes once and shares
    them inside; inside, every device receives (N-1)/N of them.
    """
    cluster, received = one.cluster, sum(wire_bytes(one).values())
    whole = received * cluster.devices / (cluster.devices - 1)
    between = whole * (cluster.nodes - 1) / cluster.nodes / cluster.between
    return max(between, received / cluster.inside)


def product_seconds(one: Training) -> float:
    """Products of a step on one device: 2 · weights · tokens a pass (Kaplan and others 2020).

    Forward, backward through the states, backward to the weights if they learn, and once more
    forward with checkpointing. Attention is left out: under 5 % at this length.
    """
    passes = 2 + one.full + one.checkpointing
    operations = 2 * passes * one.model.weights * one.tokens
    return operations / (REACHED * one.cluster.products)


def step_seconds(one: Training) -> float:
    """FSDP gathers the next layer while one computes: the slower of the two is what is left."""
    return max(product_seconds(one), wire_seconds(one))


def covering_tokens(one: Training) -> float:
    """Tokens of one device in a step from which products take as long as the wire."""
    return one.tokens * wire_seconds(one) / product_seconds(one)


def checkpoint_bytes(one: Training) -> float:
    """Trained weights in fp32 and both averages of the optimizer: 12 a weight."""
    return float((MASTER + ADAM) * one.trained)


def checkpoint_seconds(one: Training) -> float:
    """As our worker saves: gathered to the first process, written and hashed by it alone."""
    size = checkpoint_bytes(one)
    return size / one.cluster.between + size / one.cluster.disk + size / HASHED


def sharded_checkpoint_seconds(one: Training) -> float:
    """If each process wrote and hashed its share, to a shared file system of its rate."""
    size = checkpoint_bytes(one)
    return max(size / one.cluster.shared, size / one.cluster.devices / HASHED)


def host_bytes(one: Training) -> float:
    """Memory of one machine while the model is loaded: every process holds all of it."""
    return one.cluster.each * (MASTER if one.full else HALF) * one.model.weights


def start_seconds(one: Training) -> dict[str, float]:
    """Before the first step: fetched once, hashed once, and read by each machine once.

    The other processes of a machine find the pages in its memory.
    """
    size = HALF * one.model.weights
    return {
        "downloading": size / one.cluster.internet,
        "hashing": size / HASHED,
        "reading": size * one.cluster.nodes / one.cluster.shared,
    }
