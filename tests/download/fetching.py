"""The file that the tests download, and how they ask for it."""

import hashlib

from deeplab_fast.storage.download import download
from deeplab_fast.storage.remote import RemoteFile

CONTENT = bytes(i * i % 251 for i in range(300_000))
OTHER = bytes(reversed(CONTENT))
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def remote_at(*urls, **known):
    return RemoteFile("w.bin", urls, **(known or {"sha256": SHA256, "size": len(CONTENT)}))


def fetch(server, folder, **known):
    return download(remote_at(f"{server.url}/w.bin", **known), folder / "w.bin")


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def is_whole(folder):
    return names(folder) == ["w.bin"] and (folder / "w.bin").read_bytes() == CONTENT
