"""Mixes: weights are fractions of the result, the seed is the order, each row has its origin."""

from collections import Counter

import pytest

from trainer_backend.data.store.dataset import list_datasets
from trainer_backend.data.store.held_out import with_held_out
from trainer_backend.data.store.mixes import mix_datasets, row_counts
from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.errors import UserError


def stored(home, name: str, count: int):
    rows = [
        {"prompt": f"What is {at} in {name}?", "response": f"It is the answer {at} of {name}."}
        for at in range(1, count + 1)
    ]
    return create_from_rows(home, rows, name=name)


def origins(dataset) -> list[tuple[str, int]]:
    rows, _ = dataset.page(0, 10_000)
    return [(cells["from"], int(cells["from_row"])) for _, cells in rows]


@pytest.mark.parametrize(
    ("weights", "sizes", "repeat", "counts"),
    [
        ((1, 1), (100, 40), False, [40, 40]),
        ((3, 1), (90, 90), False, [90, 30]),
        ((1, 3), (90, 90), False, [30, 90]),
        ((0.7, 0.2, 0.1), (700, 200, 100), False, [700, 200, 100]),
        ((1, 1000), (50, 10), False, [1, 10]),
        ((1, 1), (100, 40), True, [100, 100]),
        ((3, 1), (30, 5), True, [30, 10]),
    ],
)
def test_weights_are_fractions_of_the_result(weights, sizes, repeat, counts):
    assert row_counts(weights, sizes, repeat) == counts


def test_a_mix_takes_each_row_once_and_says_where_it_came_from(home):
    a, b = stored(home, "a", 60), stored(home, "b", 40)
    mixed = mix_datasets(home, [(a.id, 2), (b.id, 1)], name="both", seed=5)
    found = origins(mixed)
    assert Counter(name for name, _ in found) == {"a": 60, "b": 30}
    assert len(set(found)) == 90 and mixed.num_examples == 90
    assert mixed.done == "60 rows of a (67%); 30 rows of b (33%)."
    names = [name for name, _ in found]
    assert names != sorted(names) and "b" in names[:15] and "b" in names[-15:]
    for number, (name, row) in enumerate(found[:10], start=1):
        source = a if name == "a" else b
        assert mixed.example(number).messages == source.example(row).messages


def test_the_same_seed_is_the_same_mix(home):
    parts = [(stored(home, "a", 30).id, 1), (stored(home, "b", 90).id, 1)]
    mixed = mix_datasets(home, parts, name="one", seed=5)
    assert mix_datasets(home, parts, name="two", seed=5) == mixed
    other = mix_datasets(home, parts, name="one", seed=6)
    assert other.id != mixed.id and origins(other) != origins(mixed)


def test_repeats_are_described(home):
    a, b = stored(home, "a", 30), stored(home, "b", 8)
    mixed = mix_datasets(home, [(a.id, 1.5), (b.id, 1)], name="x", seed=1, repeat=True)
    counts = Counter(origins(mixed))
    assert mixed.num_rows == 50 and {counts[("a", row)] for row in range(1, 31)} == {1}
    assert {counts[("b", row)] for row in range(1, 9)} == {2, 3}
    assert "each 2.5 times on average" in mixed.done


def test_held_out_rows_are_not_mixed_in(home):
    a, b = stored(home, "a", 20), stored(home, "b", 5)
    both = with_held_out(home, a.id, b.id)
    mixed = mix_datasets(home, [(both.id, 4), (stored(home, "c", 5).id, 1)], name="x", seed=1)
    assert Counter(name for name, _ in origins(mixed)) == {"a": 20, "c": 5}


def test_texts_are_mixed_with_texts_alone(home):
    first = create_from_rows(home, [{"text": f"text number {at}"} for at in range(9)], name="t")
    second = create_from_rows(home, [{"text": f"other text {at}"} for at in range(9)], name="u")
    mixed = mix_datasets(home, [(first.id, 1), (second.id, 1)], name="x", seed=1)
    assert mixed.format == "text" and mixed.num_examples == 18
    with pytest.raises(UserError, match="Plain text and conversations"):
        mix_datasets(home, [(first.id, 1), (stored(home, "a", 5).id, 1)], name="x", seed=1)


def test_tools_stay_with_their_rows(home):
    tools = [{"type": "function", "function": {"name": "f"}}]
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    first = create_from_rows(home, [{"messages": turns, "tools": tools}], name="t")
    mixed = mix_datasets(home, [(first.id, 1), (stored(home, "a", 1).id, 1)], name="x", seed=1)
    assert sorted(one.tools is not None for one in mixed.examples()) == [False, True]


def test_impossible_mixes_are_refused(home):
    a, b = stored(home, "a", 5), stored(home, "b", 5)
    unclear = create_from_rows(home, [{"x": "1", "y": "2"}], name="unclear")
    for parts in (
        [],
        [(a.id, 1)],
        [(a.id, 1), (a.id, 2)],
        [(a.id, 1), (b.id, 0)],
        [(a.id, 1), (b.id, float("nan"))],
        [(a.id, 1), (b.id, float("inf"))],
        [(a.id, -1), (b.id, 1)],
        [(a.id, 1), ("f" * 16, 1)],
        [(a.id, 1), (unclear.id, 1)],
    ):
        with pytest.raises(UserError):
            mix_datasets(home, parts, name="x", seed=1)
    assert len(list_datasets(home)) == 3
