"""Reading events: what a rewind costs."""

from trainer_backend.runs.events import curve_rows


class Looked(dict):
    """An event that counts how often it is looked at."""

    looks = 0

    def __getitem__(self, key):
        Looked.looks += 1
        return super().__getitem__(key)


def test_many_resumes_do_not_read_the_whole_curve_each_time():
    events = [Looked(type="metrics", step=step) for step in range(1, 1_001)]
    for _ in range(200):  # preempted again and again, two steps after a checkpoint
        events.append(Looked(type="resumed", step=998))
        events += [Looked(type="metrics", step=step) for step in (999, 1_000)]
    Looked.looks = 0
    rows = curve_rows(events)
    assert [dict(row)["step"] for row in rows] == [*range(1, 1_001)]
    assert Looked.looks < 10 * len(events)
