from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from pytest_kick.errors import FetchError
from pytest_kick.models import hub
from pytest_kick.models.source import resolve
from pytest_kick.spec import ModelSpec

if TYPE_CHECKING:
    from pathlib import Path

SPEC = ModelSpec(name="m", family="decoder", source="hub:org/name@v1")


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace the hub's client by one that returns a directory; return the list of its calls."""
    made: list[dict[str, Any]] = []

    def snapshot_download(repo: str, **options: Any) -> str:
        made.append({"repo": repo, **options})
        return str(tmp_path)

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub.huggingface_hub, "snapshot_download", snapshot_download)
    return made


def test_only_weights_and_tokenizer_are_fetched(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    """A snapshot of the named revision, safetensors and text files only, one progress line."""
    (tmp_path / "model.safetensors").touch()
    told: list[str] = []
    assert resolve(SPEC, tmp_path / "cache", progress=told.append) == tmp_path
    (call,) = calls
    assert (call["repo"], call["revision"], call["local_files_only"]) == ("org/name", "v1", False)
    assert "*.safetensors" in call["allow_patterns"]
    assert not {"*.py", "pytorch_model*.bin"} & set(call["allow_patterns"])
    assert told == ["model 'm': fetching org/name@v1 from the hub"]


def test_offline_asks_the_local_cache_only(calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option and the hub's own variable both keep it off the network."""
    (tmp_path / "model.safetensors").touch()
    resolve(SPEC, tmp_path / "cache", offline=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    resolve(SPEC, tmp_path / "cache")
    assert [call["local_files_only"] for call in calls] == [True, True]


def test_pickles_and_code_come_only_when_allowed(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    """A repository with pickles only is refused before they are fetched, unless they are allowed."""
    with pytest.raises(FetchError, match=r"model 'm': weights: got no safetensors in org/name@v1, expected some. Allow pickles"):
        resolve(SPEC, tmp_path / "cache")
    assert len(calls) == 1
    resolve(SPEC, tmp_path / "cache", allow_pickle=True, trust_remote_code=True)
    assert "pytorch_model*.bin" not in calls[1]["allow_patterns"]
    assert {"*.py", "pytorch_model*.bin"} <= set(calls[2]["allow_patterns"])


@pytest.mark.parametrize(("offline", "todo"), [(True, "Fetch it once with a network: kick fetch"), (False, "Check the network")])
def test_no_network_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, offline: bool, todo: str) -> None:
    """Whatever the client raises becomes one line that names the repository and what to do."""

    def fail(_repo: str, **_options: Any) -> str:
        msg = "cannot find the snapshot\nand more"
        raise LocalEntryNotFoundError(msg)

    monkeypatch.setattr(hub.huggingface_hub, "snapshot_download", fail)
    with pytest.raises(FetchError) as caught:
        resolve(SPEC, tmp_path / "cache", offline=offline)
    got = "no copy in the hub's cache" if offline else "LocalEntryNotFoundError (cannot find the snapshot)"
    text = f"model 'm': hub: got {got}, expected org/name@v1. "
    assert str(caught.value) == f"{text}{todo}{'' if offline else ', the name and your access'}, or use path:DIR."
