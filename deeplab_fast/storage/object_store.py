"""Objects of S3 and Google Cloud Storage through fsspec, read as an HTTP answer is (extra ``remote``)."""

from urllib.parse import urlsplit

from ..config.urls import public

OBJECT_SCHEMES = {"s3": "s3fs", "gs": "gcsfs"}  # and the package that fsspec takes for each


class StoreError(Exception):
    """A store did not give an object; the text says why. ``absent``: there is none, or it is not for us."""

    def __init__(self, why: str, may_pass: bool, absent: bool = False) -> None:
        super().__init__(why)
        self.may_pass, self.absent = may_pass, absent


class StoredObject:
    """An object that is open for reading, with the status, headers and bytes that a server of HTTP would give.

    It begins at byte ``have`` where the object's version is still ``validator``, else at its start.

    Raises:
        StoreError: there is no such object, or no access to it, or the store does not answer.
    """

    def __init__(self, url: str, have: int, validator: str) -> None:
        try:
            from fsspec.core import url_to_fs

            files, path = url_to_fs(url)
            info = files.info(path)
            version = f'"{info.get("ETag") or info.get("etag") or files.ukey(path)}"'.replace('""', '"')
            self._file = files.open(path, "rb")
        except ImportError:
            package = OBJECT_SCHEMES[urlsplit(url).scheme]
            raise StoreError(f"needs {package}; pip install 'deeplab_fast[remote]'", False) from None
        except Exception as error:  # each store has a family of its own
            raise _store_error(error) from None
        size = info["size"]
        goes_on = 0 < have < size and version == validator
        self.status = 206 if goes_on else 200
        self.headers = {"ETag": version, "Content-Length": str(size - (have if goes_on else 0))}
        if goes_on:
            self._file.seek(have)
            self.headers["Content-Range"] = f"bytes {have}-{size - 1}/{size}"

    def __enter__(self) -> "StoredObject":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, count: int) -> bytes:
        """Return at most ``count`` bytes, none at the end; raise :class:`StoreError` where they do not come."""
        try:
            return bytes(self._file.read(count))
        except Exception as error:
            raise _store_error(error) from None


def _store_error(error: Exception) -> StoreError:
    absent = isinstance(error, FileNotFoundError | PermissionError)
    words = " ".join(public(str(error)).split())[:200]
    kind = "no such object" if isinstance(error, FileNotFoundError) else type(error).__name__
    return StoreError(f"{kind}: {words}" if words else kind, not absent, absent)
