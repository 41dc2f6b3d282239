"""Published data sets and weights, downloaded, checked and unpacked: ``prepare download``."""

import logging
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from deeplab_fast.cli import parse_flags
from deeplab_fast.config import flag, validate
from deeplab_fast.data.voc import SBD_DIR, VOC_DIR
from deeplab_fast.errors import UserError
from deeplab_fast.model.weights.named import fetch_weights, present, unknown
from deeplab_fast.model.weights.pretrained import PRETRAINED
from deeplab_fast.storage.download import download
from deeplab_fast.storage.files import check_folder, default_cache
from deeplab_fast.storage.remote import RemoteFile
from deeplab_fast.storage.unpack import missing_of, remove_left, unpack

from .published import PUBLISHED

logger = logging.getLogger("deeplab_fast")

WHAT = f"{', '.join(PUBLISHED)} or weights NAME"
EPILOG = f"NAME: {', '.join(PRETRAINED)}"


@dataclass(frozen=True, kw_only=True)
class DownloadConfig:
    """Download"""

    output: str = flag("", "Folder to unpack a data set into, the --data_root of the other commands; of weights, the"
                           " folder to put them into, default ~/.cache/deeplab_fast/weights.")  # fmt: skip
    mirror: str = flag("", "URL to try before the published ones: the file's, or its folder's with / at the end.")


def main(argv: list[str]) -> int:
    """Download what the words before the flags name; return the exit status."""
    words: list[str] = []
    while argv and not argv[0].startswith("-"):
        words, argv = [*words, argv[0]], argv[1:]
    program = "deeplab_fast.prepare download"
    about = f"Download, check and unpack published data sets and weights: {WHAT}."
    config = DownloadConfig(**parse_flags(DownloadConfig, argv, program, about, EPILOG))
    validate(config)
    if words[:1] == ["weights"]:
        return _weights(words[1:], config)
    if len(words) != 1:
        raise UserError(f"prepare download{''.join(f' {word}' for word in words)}: expected one of {WHAT}")
    return _data(words[0], config)


def _data(name: str, config: DownloadConfig) -> int:
    if name not in PUBLISHED:
        raise UserError(f"prepare download {name}: unknown; expected one of {WHAT}")
    if not config.output:
        raise UserError("--output: missing; expected the folder to unpack into, such as data")
    data, root = PUBLISHED[name], Path(config.output)
    folder = root / data.folder
    archive = _with_mirror(data.archive, config)
    if folder.exists():
        missing = missing_of(folder, data.holds)
        if missing is not None:
            raise UserError(f"{folder}: is there, but without {missing}; move it away to have it made again")
        remove_left(root)
        print(f"{folder}: there already")
    else:
        check_folder(root, f"--output={root}")
        logger.info("%s: %s", archive.name, data.terms)
        download(archive, root / archive.name)
        unpack(root / archive.name, data.folder, root, data.holds)
        print(f"{folder}: unpacked; {root / archive.name} is no longer needed")
    _say_next(root)
    return 0


def _say_next(root: Path) -> None:
    """Print the commands that come after the data sets that are there."""
    where, program = shlex.quote(str(root)), "python -m deeplab_fast.prepare"
    if not (root / VOC_DIR).is_dir():
        print(f"next: {program} download voc2012 --output={where}")
        return
    if not (root / SBD_DIR).is_dir():
        print(f"for the augmented list: {program} download sbd --output={where}")
    print(f"next: {program} lists --data_root={where}")


def _weights(words: list[str], config: DownloadConfig) -> int:
    if len(words) != 1:
        raise UserError(f"prepare download weights: expected one name of {', '.join(PRETRAINED)}")
    if words[0] not in PRETRAINED:
        raise unknown(words[0], f"prepare download weights {words[0]}: unknown")
    weights = PRETRAINED[words[0]]
    weights = replace(weights, file=_with_mirror(weights.file, config))
    if config.output:
        check_folder(Path(config.output), f"--output={config.output}")
        path = fetch_weights(weights, Path(config.output))
    else:
        cache = default_cache() / "weights"
        path = present(weights, cache) or fetch_weights(weights, cache, "or give another folder with --output")
    print(path)
    given = shlex.quote(str(path)) if config.output else words[0]
    print(f"next: python -m deeplab_fast.train --backbone={weights.backbone} --ckpt_pre_trained={given} ...")
    return 0


def _with_mirror(remote: RemoteFile, config: DownloadConfig) -> RemoteFile:
    return remote.tried_first_at(config.mirror, f"--mirror={config.mirror}") if config.mirror else remote
