"""Which adapted layers read the same input, found by trying, and their products made together.

How a product is computed is not decided here.
"""

from collections.abc import Iterator
from weakref import ReferenceType, ref

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor

Names = tuple[str, ...]
_MISSES = 2  # forward passes in which a group's results were made in vain


class LoraGroup:
    """Layers of one parent that were given the very same tensor, one after the other.

    Whichever is called first computes for all; the others are handed their results when they are
    called with that same, unchanged tensor.
    """

    def __init__(self, members: tuple[LoraLinear, ...]):
        self.members = members
        self._input: ReferenceType[Tensor] | None = None
        self._version = 0
        self._waiting: dict[LoraLinear, Tensor] = {}
        self._misses = 0

    def take(self, layer: LoraLinear, x: Tensor) -> Tensor | None:
        """The result that was made for this layer and input, once."""
        same = self._input is not None and self._input() is x and x._version == self._version
        return self._waiting.pop(layer, None) if same else None

    def keep(self, x: Tensor, results: dict[LoraLinear, Tensor]) -> None:
        """Hold results of input `x` until they are taken."""
        self.reset()
        self._input, self._version, self._waiting = ref(x), x._version, results

    def reset(self) -> None:
        """Drop what was not taken; a group that computes in vain again is dissolved."""
        if self._waiting:
            self._misses += 1
            self._waiting = {}
            if self._misses >= _MISSES:
                self.members = ()


class LoraGroups:
    """The groups among the adapted layers of a model.

    While it is watched, any forward pass tells which children of a parent are called with one
    tensor. What was seen in one parent holds for all of its class: a probe may compute a few layers
    only. A wrong guess costs time, never a result.
    """

    def __init__(self, model: torch.nn.Module, layers: list[LoraLinear]):
        wanted = set(layers)
        self._places: dict[LoraLinear, tuple[torch.nn.Module, str]] = {}
        for parent in model.modules():
            for name, child in parent.named_children():
                if child in wanted:
                    self._places[child] = (parent, name)
        self._layers = layers
        self._seen: dict[type, set[Names]] | None = {}
        self._run: list[str] = []
        self._last: tuple[torch.nn.Module, ReferenceType[Tensor], int] | None = None
        self._of: dict[LoraLinear, LoraGroup] = {}

    def watch(self, layer: LoraLinear, x: Tensor) -> None:
        """Note that `layer` is called with `x`."""
        if self._seen is None or layer not in self._places:
            return
        parent, name = self._places[layer]
        if self._last is not None and self._last[0] is parent and self._last[1]() is x:
            if x._version == self._last[2] and name not in self._run:
                self._run.append(name)
                return
        self._end_run()
        self._last, self._run = (parent, ref(x), x._version), [name]

    def _end_run(self) -> None:
        if self._seen is not None and self._last is not None:
            self._seen.setdefault(type(self._last[0]), set()).add(tuple(self._run))
        self._last, self._run = None, []

    def settle(self, form: bool = True) -> list[Names]:
        """Stop watching and `form` the groups of what was seen; returns the names of each kind."""
        self._end_run()
        seen, self._seen = (self._seen or {}) if form else {}, None
        kinds = {kind: _distinct(runs) for kind, runs in seen.items()}
        children: dict[torch.nn.Module, dict[str, LoraLinear]] = {}
        for layer, (parent, name) in self._places.items():
            children.setdefault(parent, {})[name] = layer
        for parent, named in children.items():
            for run in kinds.get(type(parent), []):
                self._form([named[name] for name in run if name in named])
        return sorted({run for runs in kinds.values() for run in runs})

    def _form(self, members: list[LoraLinear]) -> None:
        if len(members) > 1:
            group = LoraGroup(tuple(members))
            self._of.update(dict.fromkeys(members, group))

    def of(self, layer: LoraLinear) -> LoraGroup | None:
        """The group of a layer, unless it was dissolved."""
        group = self._of.get(layer)
        return group if group is not None and group.members else None

    def reset(self) -> None:
        """Before a forward pass: forget what an interrupted one left."""
        for group in set(self._of.values()):
            group.reset()

    def sets(self) -> Iterator[tuple[LoraLinear, ...]]:
        """All layers, those of a group together."""
        for layer in self._layers:
            group = self.of(layer)
            if group is None:
                yield (layer,)
            elif group.members[0] is layer:
                yield group.members


def _distinct(runs: set[Names]) -> list[Names]:
    """Runs of two or more names that are in no other run."""
    others = {run: set().union(*(set(other) for other in runs if other != run)) for run in runs}
    return [run for run in runs if len(run) > 1 and not others[run] & set(run)]
