"""A repository of the Hub that files are pushed to: commits in order, checked afterwards."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pipeline.errors import HubError, PipelineError
from pipeline.progress import Tick, silent
from pipeline.store.hub import as_hub_error

MAIN = "main"
MOST_FILES = 100  # of one commit, as the Hub recommends

PIECE_BYTES = 8 << 20

Kind = Literal["model", "dataset"]


@dataclass(frozen=True)
class LocalFile:
    """What a file of the repository is to be."""

    content: Path | bytes
    size: int
    """In bytes."""
    sha256: str
    blob: str
    """git's own digest, by which the Hub knows a small file."""

    def is_there(self, entry: Any) -> bool:
        """Whether a file of the repository, None for none, has these bytes."""
        if entry is None or entry.size != self.size:
            return False
        return bool(entry.lfs.sha256 == self.sha256 if entry.lfs else entry.blob_id == self.blob)


def local_file(content: Path | bytes) -> LocalFile:
    """Read a file, or some bytes, for its digests."""
    size = content.stat().st_size if isinstance(content, Path) else len(content)
    sha, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as file:
        while piece := file.read(PIECE_BYTES):
            sha.update(piece)
            blob.update(piece)
    return LocalFile(content, size, sha.hexdigest(), blob.hexdigest())


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What a push did."""

    url: str
    """Of the repository's page."""
    commit: str
    """Where the branch is now."""
    commits: int
    """Made by this push; 0 = everything was there."""
    pushed_files: int
    pushed_bytes: int
    kept_files: int
    """There already, with the same bytes."""


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository that exists, and a branch of it that one may write."""

    api: Any
    name: str
    kind: Kind
    branch: str
    url: str

    @property
    def address(self) -> str:
        """The `hf://` address of its root."""
        prefix = "datasets/" if self.kind == "dataset" else ""
        at = "" if self.branch == MAIN else f"@{quote(self.branch, safe='')}"
        return f"hf://{prefix}{self.name}{at}"

    def head(self) -> str:
        """The branch's newest commit."""
        info = self.api.repo_info(self.name, repo_type=self.kind, revision=self.branch)
        return str(info.sha)

    def files(self, commit: str) -> dict[str, Any]:
        """Every file of a commit: path -> `huggingface_hub.hf_api.RepoFile`."""
        tree = self.api.list_repo_tree(
            self.name, repo_type=self.kind, revision=commit, recursive=True
        )
        return {entry.path: entry for entry in tree if hasattr(entry, "blob_id")}


@contextmanager
def naming_hub_errors(what: str) -> Iterator[None]:
    """Turn what `huggingface_hub` raises into one message; what is ours stays itself."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename:
            raise  # a file on this machine
        cause = error.__cause__ if type(error) is RuntimeError else None  # of an upload's thread
        raise as_hub_error(what, cause or error) from error


def open_repository(name: str, kind: Kind, *, private: bool, branch: str | None) -> Repository:
    """Find or make a repository and its branch.

    Args:
        name: user/name.
        kind: model or dataset.
        private: of a new one; one that is there and public is refused.
        branch: made from `main` when it is not there; None = main.

    Raises:
        HubError: no token, no network, not allowed, no such name; says what to do.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with naming_hub_errors(name):
        if name.count("/") != 1:
            user = api.whoami()["name"]
            raise HubError(f"{name}: expected user/name, such as {user}/{Path(name).name}.")
        api.whoami()  # a token that does not work is said at once, and as such
        url = api.create_repo(name, repo_type=kind, private=private or None, exist_ok=True)
        if private and not api.repo_info(name, repo_type=kind).private:
            raise HubError(
                f"{name}: is there and public, so --private cannot hold. Make it private on the "
                "Hub, choose another --repo, or leave --private out."
            )
        if branch and branch != MAIN:
            api.create_branch(name, repo_type=kind, branch=branch, exist_ok=True)
    return Repository(api=api, name=name, kind=kind, branch=branch or MAIN, url=str(url))


def push_files(
    repository: Repository,
    files: Mapping[str, LocalFile],
    *,
    message: str,
    last: str | None = None,
    remove: Sequence[str] = (),
    tick: Tick = silent,
) -> Pushed:
    """Bring a branch to hold files, in one commit or, of many files, in several.

    Promises: files that are there are not sent again, and neither is what an interrupted push had
    sent; afterwards every file is there with the bytes it must have, by the Hub's own digests.
    Someone else's commit meanwhile is an error.

    Args:
        repository: where.
        files: path in the repository -> what it is to be.
        message: of the commits.
        last: the path that makes the rest valid: of several commits it is in the last one alone,
            and an earlier one goes with the first.
        remove: paths that are to go.
        tick: told of bytes.

    Raises:
        HubError: refused, interrupted by the network, or not what was sent.
    """
    with naming_hub_errors(repository.name):
        head = repository.head()
        there = repository.files(head)
        missing = [path for path, file in files.items() if not file.is_there(there.get(path))]
        batches = _batches(missing, last, [path for path in remove if path in there])
        if len(batches) > 1 and last in there:
            batches[0][1].append(last)
        done, total = 0, sum(files[path].size for path in missing)
        for number, (adds, deletes) in enumerate(batches, start=1):
            part = f" ({number} of {len(batches)})" if len(batches) > 1 else ""
            added = {path: files[path] for path in adds}
            head = _commit(repository, added, deletes, f"{message}{part}", head)
            done += sum(file.size for path, file in added.items() if path in missing)
            tick("bytes", done, total)
        _require_there(repository, files, head)
    return Pushed(
        url=repository.url,
        commit=head,
        commits=len(batches),
        pushed_files=len(missing),
        pushed_bytes=total,
        kept_files=len(files) - len(missing),
    )


def _batches(
    missing: Sequence[str], last: str | None, gone: list[str]
) -> list[tuple[list[str], list[str]]]:
    """(paths to add, paths to delete) of each commit; [] when there is nothing to do."""
    paths = sorted(missing)
    several = len(paths) > MOST_FILES
    if several:
        paths = [path for path in paths if path != last]
    parts = [paths[start : start + MOST_FILES] for start in range(0, len(paths), MOST_FILES)]
    if several and last is not None:
        parts.append([last])
    if gone and not parts:
        parts = [[]]
    return [(part, [] if place else gone) for place, part in enumerate(parts)]


def _commit(
    repository: Repository,
    adds: Mapping[str, LocalFile],
    deletes: Sequence[str],
    message: str,
    parent: str,
) -> str:
    """One commit; not `upload_folder`, whose several commits come in an order of its own."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    operations: list[Any] = [CommitOperationDelete(path_in_repo=path) for path in deletes]
    for path, file in adds.items():
        given = str(file.content) if isinstance(file.content, Path) else file.content
        operations.append(CommitOperationAdd(path_in_repo=path, path_or_fileobj=given))
    made = repository.api.create_commit(
        repository.name,
        operations,
        repo_type=repository.kind,
        revision=repository.branch,
        commit_message=message,
        parent_commit=parent,
    )
    return str(made.oid)


def _require_there(repository: Repository, files: Mapping[str, LocalFile], commit: str) -> None:
    there = repository.files(commit)
    for path, file in files.items():
        if not file.is_there(there.get(path)):
            raise HubError(
                f"{repository.name}: {path} is not there with the bytes that were sent (commit "
                f"{commit[:12]}). Run the same command again."
            )
