"""One message in each row: chained by parent or by conversation, and nothing lost in silence."""

from trainer_backend.data.formats.columns.threads import chained, find_thread


def message(own, parent, role, text, **more) -> dict:
    return {"message_id": own, "parent_id": parent, "role": role, "text": text, **more}


def chain(rows: list[dict]) -> tuple[list[tuple[int, list[str]]], str]:
    """({first row: its texts} in order, the sentence)."""
    numbered, said = list(enumerate(rows, start=1)), []
    talks = chained(iter(numbered), numbered, said.append)
    made = [(number, [one["content"] for one in row["messages"]]) for number, row in talks]
    return made, said[0]


def test_the_best_path_of_each_tree():
    rows = [
        message("q", None, "prompter", "Q", rank=None),
        message("a2", "q", "assistant", "second", rank=1),
        message("a1", "q", "assistant", "first", rank=0),
        message("f2", "a2", "prompter", "and this?", rank=0),
        message("f1", "a1", "prompter", "and?", rank=0),
        message("e1", "f1", "assistant", "end", rank=0),
        message("r", None, "prompter", "R", rank=None),
        message("s", "r", "assistant", "S", rank=0),
    ]
    made, said = chain(rows)
    assert made == [(1, ["Q", "first", "and?", "end"]), (7, ["R", "S"])]
    assert "6 of them were chained by “parent_id” into 2 conversations" in said
    assert "comes first: 2 (rows 2, 4)" in said


def test_without_ranks_the_first_answer_is_taken():
    rows = [
        message("a", "q", "assistant", "first"),
        message("b", "q", "assistant", "second"),
        message("q", None, "user", "Q"),
    ]
    assert chain(rows)[0] == [(1, ["Q", "first"])]


def test_a_circle_and_a_missing_parent_do_no_harm():
    rows = [
        message("a", "b", "user", "A"),
        message("b", "a", "assistant", "B"),
        message("c", "gone", "user", "C"),
        message("d", "c", "assistant", "D"),
        message("e", "e", "user", "E"),
    ]
    assert chain(rows)[0] == [(3, ["C", "D"]), (5, ["E"])]


def test_conversations_keep_their_order_and_what_is_the_same_in_all_rows():
    rows = [
        {"session_id": 2, "turn": 10, "from": "gpt", "value": "D", "lang": "en", "at": 4},
        {"session_id": 1, "turn": 1, "from": "human", "value": "A", "lang": "de", "at": 1},
        {"session_id": 2, "turn": 9, "from": "human", "value": "C", "lang": "en", "at": 3},
        {"session_id": 1, "turn": 2, "from": "gpt", "value": "B", "lang": "de", "at": 2},
    ]
    made, said = chain(rows)
    assert made == [(1, ["C", "D"]), (2, ["A", "B"])] and "order is that of “turn”" in said
    numbered = list(enumerate(rows, start=1))
    (_, first), _ = chained(iter(numbered), numbered, lambda words: None)
    assert {**first, "messages": None} == {"messages": None, "session_id": 2, "lang": "en"}


def test_what_is_not_certain_is_not_chained():
    turns = [("user", "A"), ("assistant", "B")]
    alone = [{"role": role, "text": text} for role, text in turns]
    assert find_thread(alone, ["role", "text"]) is None
    unknown = [{"id": 1, "speaker": name, "text": "x"} for name in ("Alice", "Bob")]
    assert find_thread(unknown, ["id", "speaker", "text"]) is None
    single = [{"thread": at, "role": role, "text": text} for at, (role, text) in enumerate(turns)]
    assert find_thread(single, ["thread", "role", "text"]) is None
    pair = [{"conversation_id": 1, "prompt": "a", "response": "b"}] * 2
    assert find_thread(pair, ["conversation_id", "prompt", "response"]) is None
