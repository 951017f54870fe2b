"""A run whose model is still to be downloaded: its bytes in the state, Stop, and the next start."""

import time

from fake_hub import SHA, FakeHub, for_processes, running
from small_runs import small_run

from trainer_backend.cli.follow import progress_line
from trainer_backend.scheduling import queue_again
from trainer_backend.scheduling.worker_process import settle, start_worker


def test_stop_ends_a_slow_download_and_resume_goes_on_with_the_rest(
    home, dataset, tiny_model_dir, monkeypatch, tmp_path
):
    with running(FakeHub()) as hub:
        hub.files[SHA] = {path.name: path.read_bytes() for path in tiny_model_dir.iterdir()}
        hub.pace = (1_000, 0.1)
        for_processes(hub, monkeypatch, tmp_path / "cache")
        run = small_run(home, dataset, "o/m", max_steps=1, eval_fraction=0.0)
        process, told = start_worker(run), {}
        while not (told.get("unit") == "bytes" and told["done"] > 50_000):
            assert process.poll() is None, run.log_tail()
            time.sleep(0.1)
            told = run.state().get("progress") or {}
        assert told["what"] == "Downloading o/m" and " kB · " in told["words"]
        assert f"Downloading o/m {told['words'][:5]}" in progress_line(run)[:60]
        run.request_stop()
        began = time.monotonic()
        while run.state()["state"] == "preparing":
            assert time.monotonic() - began < 4, "Stop is not heard"
            time.sleep(0.05)
        assert process.wait(60) == 0 and run.state()["state"] == "stopped"
        settle(run, process.returncode)

        hub.pace = None
        hub.ranges.clear()
        queue_again(run, foreground=True)
        again = start_worker(run)
        assert again.wait(90) == 0, run.log_tail()
        assert run.state()["state"] == "finished"
        rests = [int(one[6:-1]) for one in hub.ranges if one]
        assert len(rests) == 1 and rests[0] > 25_000  # the rest of 50,000 were other files
