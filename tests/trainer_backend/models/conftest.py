"""A Hub of our own for models, and an empty Hub cache."""

import pytest
from fake_hub import FakeHub, running
from huggingface_hub import constants

from trainer_backend.models import hub_answers


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty Hub cache, and a Hub that was not found silent yet."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub_answers, "REACH", hub_answers._Reach())
    monkeypatch.delenv("SFT_STUDIO_MODEL_ROOTS", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def online(monkeypatch, cache):
    with running(FakeHub()) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.endpoint)
        template = served.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield served
