"""Blind tests: two models, unnamed and shuffled, and the votes of a person and of a judge.

No text is generated here; the answers come from kept evaluations, or from a client that is given.
"""

from trainer_backend.comparison.blind.answering import Answering
from trainer_backend.comparison.blind.blind_test import (
    CHOICES,
    FIRST,
    JUDGE,
    LEFT,
    PERSON,
    RIGHT,
    SECOND,
    TIE,
    BlindTest,
    Question,
    Side,
    Vote,
)
from trainer_backend.comparison.blind.keeping import keep, open_test, tests_of
from trainer_backend.comparison.blind.questions import Wanted, new_test
from trainer_backend.comparison.blind.result import (
    Count,
    count,
    count_of_judge,
    names,
    result_dict,
    verdict,
)
from trainer_backend.comparison.blind.voting import (
    end,
    go_on,
    leave_out,
    next_question,
    take_back,
    vote,
)
