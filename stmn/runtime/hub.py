"""The model hub: `hf://user/name` stands for a model file there. All network access for models is here.

Downloads go to the cache that huggingface_hub shares with other programs, and are read as untrusted files. Nothing in
them is run.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stmn.errors import DataError, MissingExtra, StmnError, UsageError
from stmn.runtime.notices import notice

#: names of a model's files, also on the hub
MODEL_FILE, CARD_FILE, RECIPE_FILE = "model.safetensors", "README.md", "recipe.toml"
#: `pathlib` turns two slashes into one
_PREFIX = re.compile(r"hf:/{1,2}(?!/)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
#: seconds to wait for the hub to say whether a file exists
_PATIENCE = 10.0
_HOW = "write hf://USER/NAME, or hf://USER/NAME@REVISION"


@dataclass(frozen=True)
class HubName:
    """A repository on the hub, `user/name`, and a branch, tag or commit of it; None for its main branch."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hf://{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_hub_name(text: str) -> bool:
    """True for a name on the hub, well formed or not."""
    return _PREFIX.match(text) is not None


def parse_hub_name(text: str) -> HubName:
    """Parse `hf://user/name`, `hf://user/name@revision` or the same without `hf://`.

    Raises:
        UsageError: it is none of these.
        MissingExtra: huggingface_hub is not installed.
    """
    hub = _library()
    repo, at, revision = _PREFIX.sub("", text, count=1).rstrip("/").partition("@")
    try:
        hub.utils.validate_repo_id(repo)
        fits = repo.count("/") == 1 and bool(revision) == bool(at)
    except hub.errors.HFValidationError:
        fits = False
    if not fits or not re.fullmatch(r"[\w./-]*", revision) or ".." in revision:
        raise UsageError(f"{text}: is no name on the hub; {_HOW}")
    return HubName(repo, revision or None)


@cache
def fetch_model(text: str) -> Path:
    """Download the model file that `hf://user/name` stands for, unless this machine has its newest version.

    Without a connection, the copy on this machine is used, with a notice. A process asks only once for each name.

    Args:
        text: the name, with `hf://`.

    Returns:
        The file in huggingface_hub's cache.

    Raises:
        UsageError: the name is wrong, or there is no such repository, revision or model file.
        DataError: there is no connection and no local copy; or the download broke off.
        MissingExtra: huggingface_hub is not installed.
    """
    name, hub = parse_hub_name(text), _library()
    try:
        with _hub_errors(name):
            url = hub.hf_hub_url(name.repo, MODEL_FILE, revision=name.revision)
            hub.get_hf_file_metadata(url, timeout=_PATIENCE)  # once: the download itself retries for half a minute
    except _Unreachable as error:
        found = hub.try_to_load_from_cache(name.repo, MODEL_FILE, revision=name.revision)
        if not isinstance(found, str):
            raise DataError(f"{name}: is not on this machine, and the hub can't be reached: {error}") from error
        if not hub.constants.HF_HUB_OFFLINE:
            notice(f"{name}: the hub can't be reached ({error}); this is the copy on this machine")
        return Path(found)
    try:
        with _hub_errors(name):
            return Path(hub.hf_hub_download(name.repo, MODEL_FILE, revision=name.revision))
    except _Unreachable as error:
        raise DataError(f"{name}: the download broke off: {error}; run the same command to continue") from error


def pin_revision(text: str, path: Path) -> str:
    """Return the name of the download at `path` with its commit, for records."""
    commit = path.parent.name
    return str(HubName(parse_hub_name(text).repo, commit)) if _COMMIT.fullmatch(commit) else text


def upload(folder: Path, name: HubName, private: bool, message: str) -> str:
    """Commit a folder's files to a repository, which is created if it doesn't exist.

    Other files in the repository stay as they are.

    Args:
        folder: the folder; it has no subfolders.
        name: the repository, and the branch; None for the main one.
        private: make a new repository private; an existing one stays as it is.
        message: the first line of the commit message.

    Returns:
        The address of the repository.

    Raises:
        UsageError: the name is wrong, or nobody has logged in.
        StmnError: there is no connection, or the hub refuses; the repository is unchanged.
        MissingExtra: huggingface_hub is not installed.
    """
    hub = _library()
    api = hub.HfApi(library_name="stmn")
    files = [hub.CommitOperationAdd(path.name, str(path)) for path in sorted(folder.iterdir())]
    try:
        with _hub_errors(name):
            address = api.create_repo(name.repo, private=private or None, exist_ok=True)
            api.create_commit(name.repo, files, commit_message=message, revision=name.revision)
    except _Unreachable as error:
        raise StmnError(f"{name}: can't be sent: {error}") from error
    return str(address)


class _Unreachable(Exception):
    """The hub could not be reached, or failed; the message says how."""


@contextmanager
def _hub_errors(name: HubName) -> Iterator[None]:
    """Turn huggingface_hub's errors into this package's."""
    errors = _library().errors
    try:
        yield
    except errors.GatedRepoError as error:
        raise UsageError(f"{name}: its owner decides who may have it: ask on its page, then log in") from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(f"{name}: the repository has no branch, tag or commit '{name.revision}'") from error
    except errors.LocalEntryNotFoundError as error:  # a subclass of EntryNotFoundError, so it must come first
        raise _Unreachable(_describe(error.__cause__ or error)) from error
    except errors.EntryNotFoundError as error:
        raise UsageError(f"{name}: has no {MODEL_FILE}, so it is no model of stmn") from error
    except errors.RepositoryNotFoundError as error:
        raise UsageError(
            f"{name}: there is no such repository on the hub, or it is private: check the name, or log in with "
            f"`hf auth login`"
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise UsageError(
                f"{name}: permission denied: log in with `hf auth login` as a user who may write there"
            ) from error
        raise _Unreachable(_describe(error)) from error
    except (StmnError, KeyboardInterrupt):
        raise
    except Exception as error:  # from the HTTP library, which differs between versions
        raise _Unreachable(_describe(error)) from error


def _describe(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")


def _library() -> Any:
    """Import huggingface_hub with the modules used here. Raises `MissingExtra`."""
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise MissingExtra("hf://", "huggingface_hub", "hub") from error
    return huggingface_hub
