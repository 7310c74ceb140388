"""A cache in a repository of the Hugging Face Hub: `hf://datasets/user/name[@revision]/rte.zarr`.

Listings come through fsspec's HfFileSystem. A range of a file does not: it would list the file's
folder first, each time, and the Hub counts requests.
"""

from __future__ import annotations

from typing import Any

from pipeline.errors import CacheError, HubError
from pipeline.store.remote import RemotePlace


class HubPlace(RemotePlace):
    """A folder in a repository; one request for a range of a file, and no more."""

    def exists(self) -> bool:
        """Whether there is anything; raises CacheError when there is no such repository."""
        try:
            self.ask(self.fs.info, self.root)
        except FileNotFoundError:
            return False
        return True

    def ask(self, request: Any, path: str, *values: Any, **more: Any) -> Any:
        """As for any remote; a repository or revision that is not there is a CacheError."""
        try:
            return super().ask(request, path, *values, **more)
        except FileNotFoundError as error:
            if error.__cause__ is None or "EntryNotFound" in type(error.__cause__).__name__:
                raise
            raise CacheError(hub_message(self.text, error.__cause__)) from error

    def _fetch(self, name: str, start: int, stop: int) -> bytes:
        return bytes(self.count(self._get, f"{self.root}/{name}", start, stop))

    def _get(self, path: str, start: int, stop: int) -> bytes:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff

        at = self.fs.resolve_path(path)  # asks about a repository once
        url = hf_hub_url(
            at.repo_id,
            at.path_in_repo,
            repo_type=at.repo_type,
            revision=at.revision,
            endpoint=self.fs.endpoint,
        )
        wanted = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        answer = http_backoff("GET", url, headers=build_hf_headers(token=self.fs.token) | wanted)
        try:
            hf_raise_for_status(answer)
        except EntryNotFoundError as error:
            raise FileNotFoundError(path) from error
        return bytes(answer.content)


def hub_message(what: str, error: BaseException) -> str:
    """What went wrong at the Hub and what to do, in words.

    Args:
        what: the repository or address that was asked for.
        error: of `huggingface_hub`, or of the network below it.
    """
    problem, advice = _explain(error)
    return f"{what}: {problem}. {advice}."


def _explain(error: BaseException) -> tuple[str, str]:
    from huggingface_hub import constants

    names = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", None)
    login = "Log in with `hf auth login`, or set HF_TOKEN"
    if "OfflineModeIsEnabled" in names:
        return "HF_HUB_OFFLINE is set, so the Hub is not asked", "Unset it and try again"
    if names & {"HFValidationError", "HfUriError"}:
        advice = "Write user/name for a repository, hf://datasets/user/name/rte.zarr for a cache"
        return f"not an address of the Hub ({_first_line(error)})", advice
    if "LocalTokenNotFoundError" in names:
        return "the Hub needs to know who you are, and there is no token", login
    if "RevisionNotFoundError" in names:
        return "there is no such revision", "Check the branch, tag or commit"
    if names & {"GatedRepoError", "DisabledRepoError"}:
        return "access to it is not granted to you", "Ask for it on its page on the Hub"
    if "RepositoryNotFoundError" in names:
        advice = f"Check the name (a cache lies in hf://datasets/user/name). {login}"
        return "there is no such repository, or it is private and you are not let in", advice
    if status == 401:
        return "the Hub does not accept your token", f"{login} to another one"
    if status == 403:
        advice = f"{login} to a token with write access there, or choose a repository of your own"
        return f"your token may not do that ({_first_line(error)})", advice
    if status is None and names & {"TransportError", "ConnectionError", "OSError"}:
        where = constants.ENDPOINT
        advice = "Check the network (and HF_ENDPOINT), then run the same command again"
        return f"no answer from {where} ({_first_line(error)})", advice
    return (
        f"the Hub did not answer as expected ({_first_line(error)})",
        "Run the same command again",
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0].rstrip(".:")


def as_hub_error(what: str, error: BaseException) -> HubError:
    """The error for people."""
    return HubError(hub_message(what, error))
