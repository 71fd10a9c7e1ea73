"""Artifacts' contents in an object store: S3, Google Cloud, Azure, or any other place that obstore has a URL for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wherry.errors import ConfigurationError, MissingExtra

if TYPE_CHECKING:
    from obstore.store import ObjectStore

    from wherry.store.database import Connection


class ObjectContents:
    """Objects under their digest, spread over 256 prefixes.

    Args:
        url: `s3://bucket/prefix`, `gs://...`, `az://...`, `file:///folder`, `memory:///`; access is configured as the
            cloud's own tools are: by environment variables, a role, a metadata server.

    Raises:
        MissingExtra: obstore is not installed.
        ConfigurationError: The URL names no object store, or what it needs is not configured.
    """

    def __init__(self, url: str) -> None:
        try:
            import obstore
            from obstore.exceptions import BaseError
            from obstore.store import from_url
        except ImportError:
            raise MissingExtra(f"artifacts at {url!r}", "objects") from None
        self._obstore = obstore
        self._broken = BaseError
        self._url = url
        try:
            # A folder is made if it is not there; no other store knows the option.
            self._objects: ObjectStore = from_url(url, mkdir=True) if url.startswith("file:") else from_url(url)
        except (BaseError, ValueError, TypeError, OSError) as error:
            raise ConfigurationError(
                f"{url!r} is no place for artifacts: {_first_line(error)}",
                hint="write `file:///folder`, `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`, "
                "and configure access as for the cloud's own tools",
            ) from error

    def write(self, sha256: str, data: bytes, *, connection: Connection | None = None) -> None:
        path = _path(sha256)
        try:
            try:
                if self._obstore.head(self._objects, path)["size"] == len(data):
                    return
            except FileNotFoundError:
                pass
            self._obstore.put(self._objects, path, data)
        except self._broken as error:
            raise OSError(f"{self._url}: {_first_line(error)}") from error

    def read(self, sha256: str, offset: int, limit: int | None) -> bytes:
        path = _path(sha256)
        try:
            if offset == 0 and limit is None:
                return bytes(self._obstore.get(self._objects, path).bytes())
            size = self._obstore.head(self._objects, path)["size"]
            end = size if limit is None else min(size, offset + limit)
            if offset >= end:
                return b""
            return bytes(self._obstore.get_range(self._objects, path, start=offset, end=end))
        except self._broken as error:
            raise OSError(f"{self._url}: {_first_line(error)}") from error

    def remove(self, sha256: str, *, connection: Connection | None = None) -> None:
        try:
            self._obstore.delete(self._objects, _path(sha256))
        except FileNotFoundError:
            return
        except self._broken as error:
            raise OSError(f"{self._url}: {_first_line(error)}") from error

    def names(self, *, before: float) -> Iterator[tuple[str, int]]:
        # An object appears whole or not at all.
        for page in self._obstore.list(self._objects):  # pyright: ignore[reportUnknownMemberType] - its Arrow half
            for meta in page:
                yield meta["path"].replace("/", ""), meta["size"]


def _path(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256[2:]}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
