"""A set of shards that lies elsewhere: its description and its indexes are fetched, its shards come later."""

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from tqdm import tqdm

from deeplab_fast.config.urls import is_url, public
from deeplab_fast.errors import UserError
from deeplab_fast.signals import stop_is_asked
from deeplab_fast.storage.arrivals import Arrivals, Coming
from deeplab_fast.storage.download import NotDownloaded, NotPublished
from deeplab_fast.storage.files import read_json, write_json
from deeplab_fast.storage.remote import RemoteFile

from ..records.description import DATASET_FILE, DATASET_FORMAT, Listing, read_dataset
from ..records.index import ShardIndex, UnreadableIndex, index_path, read_index_alone
from ..records.names import in_order, set_name
from .cache import RecordCache
from .places import Place, place_of

logger = logging.getLogger("deeplab_fast")


@dataclass(frozen=True)
class RemoteSet:
    """Shards elsewhere, and the folder of the cache that has their description and their indexes already.

    ``text``: the flag as errors begin with it. ``whole``: a set was named, so none of it may be missing. ``used``: an
    open file that keeps the folder from being removed.
    """

    text: str
    place: Place
    cache: RecordCache
    paths: list[Path]
    whole: bool
    used: IO[bytes]

    def advice(self) -> str:
        """Return what an error of a shard says beside where to put it."""
        return f"{self.cache.flag} has what came; the same command goes on from there"


Records = str | RemoteSet  # what --data_file names: files here, or shards elsewhere


def find_records(data_file: str, cache: RecordCache, option: str = "data_file") -> Records:
    """Return ``data_file`` as it is where it is no URL, else the set that it names, its description fetched.

    Raises:
        UserError: no URL that can be read, or nothing there and nothing of it in the cache.
    """
    if not is_url(data_file):
        return data_file
    place = place_of(data_file, option)
    cache.make()
    try:
        return _found(place, cache)
    except NotDownloaded as error:
        known = _known(place, cache)
        if known is None:
            raise UserError(f"{place.text}: {error.why}") from None
        logger.warning("%s; going on with what is in %s", error.why, known.paths[0].parent)
        return known


def _found(place: Place, cache: RecordCache) -> RemoteSet:
    with TemporaryDirectory() as folder:
        staging = Path(folder)
        sets = _described(place, staging)
        names, whole = _chosen(place, sets)
        paths = in_order(Path(name) for name in names)
        listed = _is_listed(paths, sets)
        if not listed:
            _fetch_indexes(place, [staging / path for path in paths])
        name = _folder_name(place, paths, sets if listed else {}, staging)
        remote = RemoteSet(place.text, place, cache, [cache.folder / name / p for p in paths], whole, cache.enter(name))
        _describe(remote, sets)
        if listed:
            _drop_other_indexes(remote.paths)
            _fetch_indexes(place, remote.paths)
        else:
            _take_over(remote, staging)
    write_json(_note(place, cache), {"url": place.public_folder, "folder": name, "names": names, "whole": whole})
    return remote


def _described(place: Place, staging: Path) -> dict[str, Any]:
    """Return the sets that the folder's ``dataset.json`` describes: none where it has none."""
    file = staging / DATASET_FILE
    try:
        _fetch(place, [file])
    except NotPublished as error:
        if not place.names:
            raise UserError(f"{place.text}: {error.why}; expected {DATASET_FILE} there, or shards' names") from None
        return {}
    try:
        return {name: entry for name, entry in read_dataset(file)["sets"].items() if isinstance(entry, dict)}
    except UserError as error:
        words = str(error).removeprefix(f"{file}: ")
        raise UserError(f"{public(place.url(DATASET_FILE))}: {words}") from None


def _chosen(place: Place, sets: dict[str, Any]) -> tuple[list[str], bool]:
    """Return the names of the shards that are meant, and whether they are a whole set."""
    if not place.names:
        if len(sets) != 1:
            urls = ", ".join(f"{place.public_folder}{name}.tar" for name in sets)
            raise UserError(f"{place.text}: {len(sets)} sets in this folder; expected one, or the name of one: {urls}")
        return _shards_of(place, next(iter(sets)), sets), True
    stem = place.names[0].removesuffix(".tar")
    if len(place.names) == 1 and stem in sets:
        return _shards_of(place, stem, sets), True
    return list(place.names), False


def _shards_of(place: Place, name: str, sets: dict[str, Any]) -> list[str]:
    with suppress(KeyError, TypeError):
        names = [shard["file"] for shard in sets[name]["shards"]]
        if names and all(isinstance(one, str) and one.endswith(".tar") and _is_name(one) for one in names):
            return names
    raise UserError(f"{public(place.url(DATASET_FILE))}: the shards of {name} are not named; run prepare records again")


def _is_name(text: str) -> bool:
    return Path(text).name == text and text not in ("", "..") and "\\" not in text and "\0" not in text


def _is_listed(paths: Sequence[Path], sets: dict[str, Any]) -> bool:
    """Tell whether the description gives the digest of every one of these shards, which are of one set."""
    with suppress(KeyError, TypeError):
        shards = {shard["file"]: shard for shard in sets[set_name(paths[0])]["shards"]}
        return all(_is_digest(shards[path.name]["sha256"]) for path in paths)
    return False


def _is_digest(text: Any) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")


def _folder_name(place: Place, paths: Sequence[Path], sets: dict[str, Any], staging: Path) -> str:
    """Name the cache's folder of a set: by what is in its shards where that is known, else by its URL too."""
    name = set_name(paths[0])
    if name in sets:
        content: list[Any] = [[shard["file"], shard["sha256"]] for shard in sets[name]["shards"]]
    else:
        indexes = [index_of(staging / path) for path in paths]
        content = [[path.name, index.sha256 if index else ""] for path, index in zip(paths, indexes, strict=True)]
        if not all(index and _is_digest(index.sha256) for index in indexes):
            content.append(place.public_folder)
    return f"{name[:100]}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]}"


def index_of(shard: Path) -> ShardIndex | None:
    """Return the index beside a shard's place; None where there is none of ours, which is said and removed."""
    try:
        return read_index_alone(shard)
    except UnreadableIndex as error:
        logger.warning("%s: %s; the shard is read without it", index_path(shard), error)
        index_path(shard).unlink(missing_ok=True)
    return None


def _describe(remote: RemoteSet, sets: dict[str, Any]) -> None:
    """Write the description of the sets that the shards are of beside their places."""
    own = {name: sets[name] for name in sorted({set_name(path) for path in remote.paths}) if name in sets}
    file = remote.paths[0].with_name(DATASET_FILE)
    if own and not (file.is_file() and read_dataset(file)["sets"] == own):
        write_json(file, {"format": DATASET_FORMAT, "sets": own})
        for name in own:
            Listing(file.with_name(f"{name}.tar"))  # says what is wrong with it


def _fetch_indexes(place: Place, shards: Sequence[Path]) -> None:
    """Fetch the indexes that are missing; a shard may have none."""
    arrivals = _coming(place, [index_path(shard) for shard in shards])
    for number in tqdm(range(len(shards)), desc="indexes", unit="shard", leave=False, disable=None):
        with suppress(NotPublished):
            arrivals.wait([number], stop_is_asked)


def _drop_other_indexes(shards: Sequence[Path]) -> None:
    """Remove indexes that are not of the shards described, which a server gave by mistake, so that they come again."""
    listing = Listing(shards[0].with_name(f"{set_name(shards[0])}.tar"))
    for shard in shards:
        index = index_of(shard)
        if index is not None and index.sha256 != listing.published(shard)[1]:
            index_path(shard).unlink(missing_ok=True)


def _take_over(remote: RemoteSet, staging: Path) -> None:
    for path in remote.paths:
        index = staging / index_path(Path(path.name))
        if index.is_file() and not index_path(path).exists():
            with suppress(FileExistsError):
                _copy(index, index_path(path))


def _copy(source: Path, target: Path) -> None:
    write_json(target, read_json(source))


def _fetch(place: Place, files: Sequence[Path]) -> None:
    _coming(place, files).wait(range(len(files)), stop_is_asked)


def _coming(place: Place, files: Sequence[Path]) -> Arrivals:
    return Arrivals([Coming(RemoteFile(file.name, (place.url(file.name),)), file) for file in files])


def _note(place: Place, cache: RecordCache) -> Path:
    """Return the file that says which folder of the cache a URL's set had last."""
    key = json.dumps([place.public_folder, place.names])
    return cache.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _known(place: Place, cache: RecordCache) -> RemoteSet | None:
    """Return the set that the URL named last time, where the cache still has its folder."""
    try:
        said = read_json(_note(place, cache))
        folder, names, whole = cache.folder / said["folder"], said["names"], said["whole"]
        if not (_is_name(said["folder"]) and folder.is_dir() and isinstance(whole, bool)):
            return None
        paths = [folder / Path(name).name for name in names]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    paths = in_order(paths)
    return RemoteSet(place.text, place, cache, paths, whole, cache.enter(folder.name))
