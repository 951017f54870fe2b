"""Every way to write a file: the rows it gives, what is said of it, and what is offered."""

import pytest
from reading_cases import put, rows

from tests.trainer_backend.data.readers.written import FILES, Written
from trainer_backend.data.readers.files import open_rows
from trainer_backend.data.readers.options import ways
from trainer_backend.errors import UserError


@pytest.mark.parametrize("case", FILES, ids=lambda case: f"{case.name}: {case.keys}")
def test_a_file_gives_its_rows(tmp_path, case: Written):
    path = put(tmp_path, case.file, case.content())
    if case.fault:
        with pytest.raises(UserError) as caught:
            rows(path)
        error = caught.value
        assert case.fault in error.what and error.fix
        assert (
            {key: error.offer[key] for key in case.offer} == case.offer
            if case.offer
            else (not error.offer)
        )
        if case.offer:
            assert rows(path, **ways(error.offer)[0]) == list(case.rows)
        return
    reader = open_rows(path)
    assert [row for _, row in reader] == list(case.rows)
    notes = " ".join(reader.notes)
    assert [words for words in case.said if words not in notes] == []


def test_each_way_is_told_once():
    names = [(case.name, case.keys) for case in FILES]
    assert len(set(names)) == len(names)
