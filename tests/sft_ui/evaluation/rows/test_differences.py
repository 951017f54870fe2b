"""Word differences between the expected and the given answer."""

import pytest

from sft_ui.evaluation.rows.differences import MOST_WORDS, differences, excerpt


@pytest.mark.parametrize(
    "expected, given, pieces",
    [
        ("Paris", "Paris", [("same", "Paris")]),
        ("Paris", " Paris\n", [("same", " Paris\n")]),
        ("", "", []),
        (
            "It takes 3 to 5 days.",
            "It takes 2 to 5 days.",
            [("same", "It takes "), ("del", "3"), ("ins", "2"), ("same", " to 5 days.")],
        ),
        ("a b d", "a b c d", [("same", "a b "), ("ins", "c"), ("same", " d")]),
        ("a b c d", "a b d", [("same", "a b"), ("del", " c"), ("same", " d")]),
        # white space counts where nothing else differs
        ("a  b c", "a b c", [("same", "a"), ("del", "  b"), ("ins", " b"), ("same", " c")]),
        # scripts without spaces are compared by character
        ("昨天发货", "今天发货", [("del", "昨"), ("ins", "今"), ("same", "天发货")]),
        ("I sent it back to you.", "No", [("other", "No")]),
        ("expected", " ", []),
    ],
)
def test_pieces(expected, given, pieces):
    assert list(differences(expected, given)) == pieces


@pytest.mark.parametrize("given", ["one two three", "one  TWO three four", "1 two 3", "three one"])
def test_what_is_not_gone_is_the_given_answer(given):
    pieces = differences("one two three", given)
    assert "".join(text for kind, text in pieces if kind != "del") == given


def test_what_is_too_long_to_compare_is_shown_unmarked():
    long = " ".join(map(str, range(MOST_WORDS + 1)))
    other = " ".join(f"{n}a" for n in range(MOST_WORDS + 1))
    assert differences(long, other) == (("other", other),)
    assert differences(long + " end", long + " END")[-1] == ("ins", "END")


def test_an_excerpt_begins_just_before_the_first_difference():
    pieces = [("same", "x" * 500), ("ins", "new"), ("same", "y" * 500)]
    shown = excerpt(pieces, 200)
    assert shown[0] == ("same", "…" + "x" * 60) and shown[1] == ("ins", "new")
    assert shown[2][1].endswith("y…") and sum(len(text) for _, text in shown) < 210
    assert excerpt(pieces[:1], 20) == [("same", "x" * 20 + "…")]
    assert excerpt([("same", "short")], 20) == [("same", "short")]
