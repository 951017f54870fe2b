"""The app as a subprocess and a real Chromium; pages must make no foreign request and no error."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser.page_steps import add_finished_run
from playwright.sync_api import expect

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
expect.set_options(timeout=15_000)
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), "")
# Reloading a page ends its open requests; Chromium reports that as errors.
RELOAD_NOISE = ("AbortError", "Connection errored out", "net::ERR_ABORTED", "Failed to fetch")


@dataclass(frozen=True)
class App:
    """A running app: its URL and its home folder."""

    url: str
    home: Path


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.browser)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_it_answers(url: str, process: subprocess.Popen) -> None:
    for _ in range(600):
        assert process.poll() is None, "the app ended"
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError("the app does not answer")


@pytest.fixture(scope="session")
def app(tmp_path_factory, starter_model):
    """The app with a home of its own that already has the starter model."""
    home = tmp_path_factory.mktemp("browser-home")
    (home / "models").mkdir()
    (home / "models" / starter_model.name).symlink_to(starter_model)
    port = free_port()
    log = open(home / "app.log", "w")  # noqa: SIM115 - closed when the app ends
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), "--home", str(home)],
        cwd=ROOT,
        env={**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "OMP_NUM_THREADS": "2"},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_it_answers(url, process)
        yield App(url, home)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()


@pytest.fixture(scope="session")
def chromium():
    """One browser for all tests; skipped where there is none."""
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Open pages in separate browser contexts; fails if any of them reported trouble."""
    contexts, troubles = [], []

    def open_one(url: str = "", **options):
        context = chromium.new_context(**{"viewport": {"width": 1360, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("dialog", lambda dialog: (troubles.append("dialog"), dialog.dismiss()))
        page.on("pageerror", lambda error: troubles.append(f"script error: {error}"))
        page.on("request", lambda request: note_foreign(request.url, troubles))
        page.on("console", lambda message: note_console(message, troubles))
        if url:
            page.goto(url)
            page.wait_for_selector("[role=tab]")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert troubles == []


def note_foreign(url: str, troubles: list) -> None:
    if not url.startswith(("http://127.0.0.1", "data:", "blob:")):
        troubles.append(f"request to {url}")


def note_console(message, troubles: list) -> None:
    if message.type == "error" and not any(noise in message.text for noise in RELOAD_NOISE):
        troubles.append(f"console: {message.text}")


@pytest.fixture
def page(app, open_page):
    """A visitor's first page."""
    return open_page(app.url)


@pytest.fixture
def finished_run(app, tmp_path):
    """A finished run in the app's home; its texts contain markup."""
    return add_finished_run(app.home, tmp_path)
