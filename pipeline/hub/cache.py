"""Publishing a cache as a dataset repository of the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import CacheCorruptError, CacheError, ParamsError
from pipeline.hub.cache_card import MARK, cache_card
from pipeline.hub.repository import (
    LocalFile,
    Pushed,
    Repository,
    local_file,
    naming_hub_errors,
    open_repository,
    push_files,
)
from pipeline.progress import Tick, silent
from pipeline.store.format import MANIFEST
from pipeline.store.manifest import Manifest, read_manifest
from pipeline.store.occupant import holds
from pipeline.store.place import LocalPlace, Place, damaged, place_of

CARD = "README.md"


@dataclass(frozen=True, kw_only=True)
class PushedCache:
    """A cache on the Hub."""

    address: str
    """As `--cache` takes it."""
    manifest: Manifest
    card_kept: bool
    """Whether the repository has a card of someone's own, which was left alone."""
    pushed: Pushed


def push_cache(
    cache: Path | str,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    license_name: str | None = None,
    overwrite: bool = False,
    tick: Tick = silent,
) -> PushedCache:
    """Put a cache into a dataset repository, in a folder of its own name, with a dataset card.

    Promises: a cache that has its manifest there is whole, at every commit; a push that was
    interrupted goes on; every file is compared with the manifest before it goes, and with the Hub's
    digests when it is there.

    Args:
        cache: a folder.
        repo: user/name; made when it is not there. It may hold several caches, and other files.
        private: of a new repository.
        revision: a branch, made when it is not there; None = main.
        message: of the commit.
        license_name: for the card, such as cc-by-4.0.
        overwrite: replace another cache of this name.
        tick: told of bytes.

    Raises:
        HubError: no token, no network, not allowed; says what to do.
        CacheError and its kin: no cache, or a damaged one; another one is there.
        ParamsError: a cache that is not in a folder.
    """
    place = place_of(cache)
    if not isinstance(place, LocalPlace):
        raise ParamsError(
            f"{place.text}: only a folder can be pushed: `pkd-cache copy {place.text} DIR`, then "
            "push DIR."
        )
    manifest = read_manifest(place)
    name = place.path.resolve().name
    files = {f"{name}/{path}": file for path, file in _files(place, manifest).items()}
    repository = open_repository(repo, "dataset", private=private, branch=revision)
    goal = place_of(f"{repository.address}/{name}")
    holds(goal, manifest, overwrite=overwrite)
    card, kept = _card(repository, {name: manifest}, license_name)
    pushed = push_files(
        repository,
        files | card,
        message=message or f"Teacher cache {name} of task {manifest.task['name']}",
        last=f"{name}/{MANIFEST}",
        remove=_strays(goal, manifest, name),
        tick=tick,
    )
    if read_manifest(goal) != manifest:
        raise CacheError(f"{goal.text}: something else was written there meanwhile; look at it.")
    return PushedCache(address=goal.text, manifest=manifest, card_kept=kept, pushed=pushed)


def _files(place: LocalPlace, manifest: Manifest) -> dict[str, LocalFile]:
    """Every file of the cache, as the manifest says it is."""
    found = {MANIFEST: local_file(manifest.to_bytes())}
    for name, entry in manifest.files.items():
        if place.size(name) != entry["size"]:
            raise _unlike(place, name)
        found[name] = local_file(place.path / name)
        if found[name].sha256 != entry["sha256"]:
            raise _unlike(place, name)
    return found


def _unlike(place: Place, name: str) -> CacheCorruptError:
    return damaged(place, name, "has other bytes than were written, so nothing was pushed")


def _strays(goal: Place, manifest: Manifest, name: str) -> list[str]:
    """What `holds` lets go: files of the cache that is replaced, also by a push that stopped."""
    strays = goal.sizes().keys() - manifest.files.keys() - {MANIFEST}
    return [f"{name}/{path}" for path in sorted(strays)]


def _card(
    repository: Repository, new: dict[str, Manifest], license_name: str | None
) -> tuple[dict[str, LocalFile], bool]:
    """The card of all caches of the repository; none where it has one that someone wrote."""
    root = place_of(repository.address)
    with naming_hub_errors(repository.name):
        names = repository.files(repository.head())
    before = root.read(CARD).decode("utf-8", "replace") if CARD in names else MARK
    if MARK not in before:
        return {}, True
    caches = dict(new)
    for path in names:
        folder, _, rest = path.partition("/")
        if rest == MANIFEST and folder not in caches:
            try:
                caches[folder] = read_manifest(f"{repository.address}/{folder}")
            except CacheError:  # not one of ours, or of another version: it has no place here
                continue
    text = cache_card(repository.name, repository.address, caches, license_name, before)
    return {CARD: local_file(text.encode())}, False
