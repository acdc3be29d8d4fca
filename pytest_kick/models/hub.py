"""Fetch a model from the Hugging Face hub into its own cache."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from pytest_kick.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable

_SOURCE = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?")
_FILES = ("*.json", "*.safetensors", "tokenizer*", "*.model", "vocab.txt", "merges.txt", "*.jinja")
_PICKLES = ("pytorch_model*.bin",)
_CODE = ("*.py",)


def snapshot(
    source: str, where: str, *, offline: bool, allow_pickle: bool, trust_remote_code: bool, progress: Callable[[str], None]
) -> Path:
    """Return the directory of a snapshot, fetched where it is not in the hub's cache yet.

    Args:
        source: `org/name` or `org/name@revision`; without a revision `main` as it is now.
        where: what errors name as the place.
        offline: use only what is in the hub's cache.
        allow_pickle: fetch pickled weights where the repository has no safetensors.
        trust_remote_code: fetch Python files too.
        progress: called with one line before fetching.

    Raises:
        FetchError: a malformed source, no network, no such repository, or no safetensors in it.
    """
    match = _SOURCE.fullmatch(source)
    if match is None:
        msg = f"{where}: source: got {source!r}, expected org/name or org/name@revision. Correct it."
        raise FetchError(msg)
    offline = offline or bool(os.environ.get("HF_HUB_OFFLINE"))
    patterns = [*_FILES, *(_CODE if trust_remote_code else ())]
    if not offline:
        progress(f"{where}: fetching {source} from the hub")
    directory = _fetch(match["repo"], match["revision"], patterns, where, offline=offline)
    if any(directory.glob("*.safetensors")):
        return directory
    if not allow_pickle:
        msg = f"{where}: weights: got no safetensors in {source}, expected some. Allow pickles if you trust it, or use a converted copy."
        raise FetchError(msg)
    return _fetch(match["repo"], match["revision"], [*patterns, *_PICKLES], where, offline=offline)


def _fetch(repo: str, revision: str | None, patterns: list[str], where: str, *, offline: bool) -> Path:
    bars = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        return Path(huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=patterns, local_files_only=offline))
    except Exception as error:
        # The hub's client raises its own errors, those of its HTTP library, and OSError. Offline there is one reason, and no advice of its.
        said = str(error).strip().splitlines()
        reason = "no copy in the hub's cache" if offline else f"{type(error).__name__}{f' ({said[0]})' if said else ''}"
        todo = "Fetch it once with a network: kick fetch" if offline else "Check the network, the name and your access"
        msg = f"{where}: hub: got {reason}, expected {repo}{f'@{revision}' if revision else ''}. {todo}, or use path:DIR."
        raise FetchError(msg) from error
    finally:
        if bars:
            enable_progress_bars()
