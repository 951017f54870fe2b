"""How quick the page is: start to first answer, and what one look at a live run costs the server.

Run: python -m benchmarks.app_speed. The time until the page is usable needs Chromium.
"""

import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOOKS = 300


def start_app(home: str) -> tuple[subprocess.Popen, str, float]:
    """Start the app; return its process, its address and the seconds until it answered."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.perf_counter()
    command = [sys.executable, "app.py", "--port", str(port), "--home", home]
    app = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    while time.perf_counter() - began < 60:
        try:
            urllib.request.urlopen(address, timeout=5).read()
            return app, address, time.perf_counter() - began
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.02)
    raise SystemExit("the app did not answer")


def make_live_run(home: Path, steps: int):
    """A run folder as a worker leaves it in the middle of a run."""
    from trainer_backend.data.store import create_from_rows
    from trainer_backend.home import open_home
    from trainer_backend.recipe import Recipe
    from trainer_backend.runs import RunWriter, create_run

    home = open_home(home)
    rows = [{"prompt": f"Say {n}", "response": f"{n}!"} for n in range(40)]
    run = create_run(home, Recipe(), create_from_rows(home, rows, name="n"), foreground=True)
    writer = RunWriter(run)
    writer.enter("running", total_steps=steps * 2)
    for step in range(1, steps + 1):
        writer.event("metrics", step=step, loss=2 / step, learning_rate=1e-4, grad_norm=1.0)
    writer.update(now=True, step=steps)
    return run, writer


def measure_looks(home: Path, steps: int = 10_000) -> dict:
    """Server time and bytes of one look at a run of many steps, while each step adds a point."""
    from sft_ui.train.run_feed import RunFeeds

    run, writer = make_live_run(home, steps)
    feed, times, sizes = RunFeeds(home).of(run.id), [], []
    asked = {"log_at": 0}
    first = time.perf_counter()
    answer = feed.since(asked, lambda _: None)
    first = time.perf_counter() - first
    for look in range(LOOKS):
        writer.event("metrics", step=steps + look, loss=0.1, learning_rate=1e-4, grad_norm=1.0)
        writer.update(now=True, step=steps + look, loss=0.1)
        asked = {key: answer[key] for key in ("rev", "seq", "stamp") if key in answer} | {
            "log_at": 0
        }
        began = time.perf_counter()
        answer = {**asked, **feed.since(asked, lambda _: None)}
        times.append((time.perf_counter() - began) * 1000)
        sizes.append(len(json.dumps(answer)))
    return {
        "first_ms": first * 1000,
        "median_ms": statistics.median(times),
        "p95_ms": statistics.quantiles(times, n=20)[-1],
        "bytes": statistics.median(sizes),
    }


def page_usable(address: str) -> float | None:
    """Seconds from opening the page in Chromium until its first tab can be used."""
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser_path:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page()
        began = time.perf_counter()
        page.goto(address)
        page.locator("#data-upload").wait_for()
        seconds = time.perf_counter() - began
        browser.close()
    return seconds


def main() -> None:
    """Print each number beside its limit."""
    with tempfile.TemporaryDirectory() as home:
        app, address, seconds = start_app(home)
        try:
            print(f"start to first answer      {seconds:6.2f} s   (limit 5)")
            usable = page_usable(address)
            shown = f"{usable:6.2f} s   (limit 2.5)" if usable else "no Chromium here"
            print(f"page usable in Chromium    {shown}")
        finally:
            app.terminate()
            app.wait()
    with tempfile.TemporaryDirectory() as home:
        found = measure_looks(Path(home))
        print(f"first look, 10,000 points  {found['first_ms']:6.1f} ms")
        print(f"one more look, median      {found['median_ms']:6.2f} ms  (limit 3)")
        print(f"one more look, 95 %        {found['p95_ms']:6.2f} ms")
        print(f"bytes of one more look     {found['bytes']:6.0f}")


if __name__ == "__main__":
    main()
