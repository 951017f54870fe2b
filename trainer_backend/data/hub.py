"""A dataset of the Hugging Face Hub as one file on this machine, at one pinned revision.

Nothing of the repository is run; reading the file is files.py. Torch-free.
"""

import re
from pathlib import Path

import huggingface_hub as hub
from huggingface_hub import errors as hub_errors

from trainer_backend.data.files import SUFFIXES
from trainer_backend.errors import UserError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
TIMEOUT = 5  # seconds for an answer, so that being offline is said at once


def is_hub_id(text: str) -> bool:
    """Whether a text could be a dataset id like “owner/name”."""
    return bool(HUB_ID.fullmatch(text)) and ".." not in text


def download_hub_data(repo_id: str) -> Path:
    """Fetch the training file of a Hub dataset. Raises UserError: offline, unknown, gated, many."""
    where = f"Hub dataset “{repo_id}”"
    try:
        info = hub.HfApi().dataset_info(repo_id, timeout=TIMEOUT)
        file = choose_file([one.rfilename for one in info.siblings or []], where)
        return Path(
            hub.hf_hub_download(
                repo_id, file, repo_type="dataset", revision=info.sha, etag_timeout=TIMEOUT
            )
        )
    except hub_errors.GatedRepoError:
        fix = f"Accept its terms on the page of {repo_id}, then set HF_TOKEN and try again."
        raise UserError("This dataset asks you to accept its terms first.", where, fix) from None
    except hub_errors.RepositoryNotFoundError:
        fix = "Check the spelling (owner/name). A private dataset also needs HF_TOKEN."
        raise UserError("The Hub has no such dataset.", where, fix) from None
    except (hub_errors.HTTPError, OSError):  # OfflineModeIsEnabled is an OSError
        fix = "Check the network, or give the path of a data file on this machine."
        raise UserError("The Hub cannot be reached.", where, fix) from None


def choose_file(names: list[str], where: str) -> str:
    """The one data file of a repository, or the one of its training split."""
    data = [name for name in names if name.lower().removesuffix(".gz").endswith(SUFFIXES)]
    data = [name for name in data if Path(name).name not in ("dataset_infos.json", "config.json")]
    train = [name for name in data if re.search(r"(?<![a-z])train(?![a-z])", name.lower())]
    for found in (data, train):
        if len(found) == 1:
            return found[0]
    if not data:
        fix = f"Choose a dataset with files in {', '.join(SUFFIXES)}."
        raise UserError("The dataset has no data file that can be read here.", where, fix)
    shown = ", ".join(sorted(train or data)[:5])
    raise UserError(
        f"The dataset has {len(train or data)} data files ({shown}…), and only one is read.",
        where,
        "Download the file you want and give its path.",
    )
