"""The Hugging Face Hub: networks are fetched from a repository and pushed to one (extra ``hub``)."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config.urls import public
from ..errors import UserError
from ..model.weights.model_folder import CARD, DESCRIPTION, FILES, WEIGHTS, read_description, refuse_other_files

Token = str | bool | None  # True: the one that `hf auth login` stored
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_repository(name: str) -> bool:
    """Tell whether a name has the form ``OWNER/NAME``."""
    return _REPOSITORY.fullmatch(name) is not None


def fetch(repository: str, revision: str | None = None, token: Token = None) -> Path:
    """Return the folder in the Hub's own cache that holds a repository's network; download it if it is not there.

    Only ``config.json`` and ``model.safetensors`` are fetched, both of one commit, and so never a pickle.

    Raises:
        UserError: huggingface_hub is not installed, or the repository, its revision or its network cannot be had.
    """
    where = f"{repository}: no such folder here, and"
    hub = _hub(where)
    try:
        found = hub.snapshot_download(
            repository,
            revision=revision,
            token=token,
            allow_patterns=[DESCRIPTION, WEIGHTS],
            library_name="deeplab_fast",
        )
    except Exception as error:  # of the Hub, of HTTP, of the file system
        raise UserError(f"{where} it cannot be fetched from the Hugging Face Hub ({_words(error, revision)})") from None
    folder = Path(found)
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{repository}: the repository has no {WEIGHTS}; expected one that push_to_hub wrote")
    return folder


def push(
    repository: str,
    save: Callable[[Path], object],
    *,
    commit_message: str,
    private: bool | None = None,
    token: Token = None,
    branch: str | None = None,
    create_pr: bool = False,
) -> str:
    """Push what ``save`` writes into a folder, in one commit, to a repository, which is created if need be.

    The folder already holds the repository's model card and ``config.json``, so that ``save`` can tell whether somebody
    edited the card.

    Returns:
        the URL of the commit, or of the pull request.

    Raises:
        UserError: huggingface_hub is not installed, the repository holds files of another kind, somebody
            else pushed to it meanwhile, or it cannot be written.
    """
    hub = _hub(f"{repository}:")
    try:
        api = hub.HfApi(token=token, library_name="deeplab_fast")
        name = api.create_repo(repository, private=private, exist_ok=True).repo_id
        before = api.repo_info(name, revision=branch)
        there = [file.rfilename for file in before.siblings or ()]
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            for file in {DESCRIPTION, CARD}.intersection(there):
                api.hf_hub_download(name, file, revision=before.sha, local_dir=folder)
            refuse_other_files(there, read_description(folder), name)
            save(folder)
            done = api.upload_folder(
                repo_id=name,
                folder_path=folder,
                commit_message=commit_message,
                revision=branch,
                create_pr=create_pr,
                parent_commit=before.sha,  # what somebody pushes meanwhile is not written over
                allow_patterns=list(FILES),
            )
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{repository}: cannot be pushed to the Hub ({_words(error, branch)})") from None
    return str(done.pr_url or done.commit_url)


def _hub(where: str) -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(
            f"{where} the Hugging Face Hub needs huggingface_hub; pip install 'deeplab_fast[hub]'"
        ) from None
    return huggingface_hub


def _words(error: Exception, revision: str | None) -> str:
    """Return an error of the Hub on one line."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "its owner gives access to those who asked for it; `hf auth login`, or token=..."
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository, or it is not public and the token is missing"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no revision {revision}"
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why the Hub was not reached
    lines = [line for line in public(str(error)).splitlines() if line.strip()]
    return " ".join(lines[0].split())[:300] if lines else type(error).__name__
