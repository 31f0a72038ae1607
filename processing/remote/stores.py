"""Stores: buckets, web servers and file systems behind URLs, through two client libraries.

obstore, the Python interface of the Rust library object_store, serves ``s3``, ``gs``, ``az`` and
``http(s)``. It retries failed requests and has time limits of its own. fsspec, which torch
requires, serves all other schemes that it knows, such as ``memory`` and ``hf``. Both take
credentials and addresses from the environment, as their documentation tells.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from processing.core.urls import URL

Buffer: TypeAlias = Any
"""Bytes of a file, in any object with the buffer protocol."""

_OBSTORE_SCHEMES: Final = ("s3", "s3a", "gs", "az", "abfs", "abfss", "azure", "http", "https")
_CONNECT_TIMEOUT: Final = timedelta(seconds=10)
_REQUEST_TIMEOUT: Final = timedelta(seconds=60)
_RETRIES: Final = 10
_LEAST_PART: Final = 5 << 20
"""Bytes of a part of a large file that is put."""
_MOST_PARTS: Final = 9_000
_RETRY_TIMEOUT: Final = timedelta(minutes=2)
_NO_BUCKET: Final = ("NoSuchBucket", "ContainerNotFound")
"""What S3, Google and Azure answer if a bucket does not exist."""
_REFUSED_METHOD: Final = re.compile(r"status code: (400|403|405|501)\b")
"""How the client names the answers of web servers that do not know HEAD, or do not allow it."""
_METADATA: Final = ("169.254.169.254", "metadata.google.internal")
"""Where a machine of a cloud gives credentials; the client asks there if the user gave none."""
_NO_CONNECTION: Final = "error sending request"
"""What the client says if there is no such host or server, or no encrypted connection to it."""
_CREDENTIALS: Final = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public "
    "bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
}
_FORKED: Final = (
    "cannot be read in a forked process, because the client's threads exist only in the process "
    "that opened it. Use BatchLoader, which reads in threads, or give the DataLoader "
    "multiprocessing_context='forkserver'"
)


class Listed(NamedTuple):
    """A file of a directory.

    Args:
        name: relative to the directory, ``/`` separated.
        size: bytes.
        modified: time of the last change, seconds since 1970; 0 if the store does not tell.
        version: differs between two contents of the file; the store makes it, such as an ETag.
    """

    name: str
    size: int
    modified: float
    version: str = ""


class Store(Protocol):
    """What this package needs of a client library. Keys are those of `URL`.

    Methods raise FileNotFoundError for an absent file, PermissionError where access is denied, and
    OSError for other failures, after the client's retries. Messages name the URL.
    """

    def size(self, key: str) -> int:
        """Returns the bytes of a file."""

    def version(self, key: str) -> str:
        """Returns a text that changes with the content of a file.

        Compare it with earlier results of this method only: a listing has times in other units.
        """

    def read(self, key: str, begin: int, end: int) -> Buffer:
        """Returns the bytes ``begin:end`` of a file, or as many of them as there are."""

    def list(self, key: str) -> Iterator[Listed]:
        """Yields the files of a directory and of all directories in it."""

    def list_directory(self, key: str) -> Iterator[Listed]:
        """Yields the files of a directory, without those of directories in it."""

    def put(self, key: str, content: Path | bytes) -> None:
        """Writes a file as a whole: others see all of it, or the file before it.

        Args:
            key: of the file.
            content: a local file, or the bytes.
        """

    def delete(self, key: str) -> None:
        """Removes a file."""


def open_store(url: URL) -> Store:
    """Returns the store of a URL; one for each bucket or host in a process.

    Raises:
        ImportError: the client for this scheme is not installed.
        ValueError: no client knows the scheme.
    """
    return _store(url.root)


@functools.lru_cache(maxsize=64)
def _store(root: str) -> Store:
    scheme = URL(root).scheme
    return _ObjectStore(root) if scheme in _OBSTORE_SCHEMES else _FileSystem(root)


class _ObjectStore:
    """A bucket or a web server, through obstore.

    Args:
        root: scheme and bucket or host.
    """

    _process: int | None = None  # that started the threads of obstore

    def __init__(self, root: str) -> None:
        self._root = root
        self._check_process()
        try:
            import obstore
            import obstore.store
        except ImportError as error:
            raise ImportError(
                f"{root}: reading it needs obstore: pip install 'npz-vision-data[remote]'"
            ) from error
        self._client = obstore
        with _told(root):
            # A user who names an address without encryption wants it to be used.
            self._store: Any = obstore.store.from_url(
                root,
                client_options={
                    "allow_http": True,
                    "connect_timeout": _CONNECT_TIMEOUT,
                    "timeout": _REQUEST_TIMEOUT,
                },
                retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT},
            )

    def _check_process(self) -> None:
        """Refuses a forked process, in which requests would wait without end."""
        if _ObjectStore._process is None:
            _ObjectStore._process = os.getpid()
        if _ObjectStore._process != os.getpid():
            raise RuntimeError(f"{self._root}: {_FORKED}")

    @contextlib.contextmanager
    def _request(self, key: str) -> Iterator[None]:
        self._check_process()
        with _told(f"{self._root}/{key}"):
            yield

    def size(self, key: str) -> int:
        with self._request(key):
            return int(self._head(key)["size"])

    def version(self, key: str) -> str:
        with self._request(key):
            return _version(self._head(key))

    def _head(self, key: str) -> Mapping[str, Any]:
        """Returns size, time and ETag of a file."""
        try:
            found: Mapping[str, Any] = self._client.head(self._store, key)
        except Exception as error:
            # Some web servers answer GET only. The client takes their answer for that of a
            # missing file, or of a wrong key.
            if not (URL(self._root).is_on_web_server and _REFUSED_METHOD.search(str(error))):
                raise
            answer = self._client.get(self._store, key, options={"range": (0, 1)})
            answer.bytes()  # otherwise the connection stays in use
            found = answer.meta
        return found

    def read(self, key: str, begin: int, end: int) -> Buffer:
        with self._request(key):
            return self._client.get_range(self._store, key, start=begin, end=end)

    def list(self, key: str) -> Iterator[Listed]:
        with self._request(key):
            for found in self._client.list(self._store, prefix=key or None):
                for entry in found:
                    name = entry["path"][len(key) :].lstrip("/")
                    modified = entry["last_modified"].timestamp()
                    yield Listed(name, entry["size"], modified, _version(entry))

    def list_directory(self, key: str) -> Iterator[Listed]:
        with self._request(key):
            found = self._client.list_with_delimiter(self._store, prefix=key or None)
            for entry in found["objects"]:
                name = entry["path"].rpartition("/")[2]
                yield Listed(name, entry["size"], entry["last_modified"].timestamp())

    def put(self, key: str, content: Path | bytes) -> None:
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        # Buckets take at most 10,000 parts.
        part = max(_LEAST_PART, size // _MOST_PARTS + 1)
        with self._request(key):
            self._client.put(self._store, key, content, chunk_size=part)

    def delete(self, key: str) -> None:
        with self._request(key):
            self._client.delete(self._store, key)


class _FileSystem:
    """Another place, through fsspec.

    Args:
        root: scheme and first part.
    """

    def __init__(self, root: str) -> None:
        import fsspec

        scheme = URL(root).scheme
        try:
            self._files, _ = fsspec.core.url_to_fs(root)
        except (ImportError, ValueError) as error:
            raise type(error)(
                f"{root}: no client for {scheme}://: {error}; s3, gs, az and https are read "
                "through obstore, others through fsspec, which needs a package for some"
            ) from error
        self._root = root

    @contextlib.contextmanager
    def _path(self, key: str) -> Iterator[str]:
        url = f"{self._root}/{key}" if key else self._root
        with _told(url):
            yield url

    def size(self, key: str) -> int:
        with self._path(key) as path:
            return int(self._files.size(path))

    def version(self, key: str) -> str:
        with self._path(key) as path:
            return _description(self._files.info(path))

    def read(self, key: str, begin: int, end: int) -> Buffer:
        with self._path(key) as path:
            return self._files.cat_file(path, start=begin, end=end)

    def list(self, key: str) -> Iterator[Listed]:
        with self._path(key) as path:
            base = self._files._strip_protocol(path)
            self._files.invalidate_cache()  # some keep the lists of earlier calls
            for name, info in self._files.find(path, detail=True).items():
                relative = name[len(base) :].lstrip("/")
                size, modified = int(info["size"]), _modified(info)
                yield Listed(relative, size, modified, _description(info))

    def list_directory(self, key: str) -> Iterator[Listed]:
        with self._path(key) as path:
            self._files.invalidate_cache()  # other processes may have written files
            if not self._files.isdir(path):
                return
            for info in self._files.ls(path, detail=True):
                if info["type"] == "file":
                    name = info["name"].rpartition("/")[2]
                    yield Listed(name, int(info["size"]), _modified(info))

    def put(self, key: str, content: Path | bytes) -> None:
        with self._path(key) as path:
            self._files.makedirs(self._files._parent(path), exist_ok=True)
            if isinstance(content, Path) and self._root.startswith("memory:"):
                content = content.read_bytes()  # `put_file` would show a part of the file
            if isinstance(content, Path):
                self._files.put_file(str(content), path)
            else:
                self._files.pipe_file(path, content)

    def delete(self, key: str) -> None:
        with self._path(key) as path:
            self._files.rm_file(path)


def _version(entry: Mapping[str, Any]) -> str:
    # Without the time, a file that was replaced and put back would pass for one that never changed.
    return f"{entry['e_tag']} {entry['last_modified'].isoformat()}"


def _description(info: Mapping[str, Any]) -> str:
    """Returns a hash of all that a file system of fsspec knows of a file, as its `ukey` does."""
    return sha256(repr(sorted(info.items())).encode()).hexdigest()[:16]


def _modified(info: Mapping[str, Any]) -> float:
    """The time of the last change that fsspec tells, in seconds since 1970; 0 if it tells none."""
    modified = info.get("created") or info.get("mtime") or 0
    return modified.timestamp() if isinstance(modified, datetime) else float(modified)


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """Turns the client's errors into those of the standard library, with the URL."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{url}: there is no such file") from error
    except (OSError, RuntimeError, ImportError, ValueError, NotImplementedError) as error:
        if str(url) in str(error):
            raise
        raise OSError(f"{url}: {error}") from error
    except Exception as error:  # obstore's own types derive from nothing else
        name, text = type(error).__name__, str(error).partition("\n\nDebug source:")[0]
        if name == "NotFoundError":
            raise FileNotFoundError(f"{url}: there is no such file") from error
        if name in ("PermissionDeniedError", "UnauthenticatedError"):
            raise PermissionError(
                f"{url}: access is denied: check the credentials in the environment: {text}"
            ) from error
        raise OSError(f"{url}: {_explained(url, text)}") from error


def _explained(url: str, text: str) -> str:
    """Returns what to do about an error of a client, or its text."""
    root = URL(url).root
    if any(code in text for code in _NO_BUCKET):
        return (
            f"the bucket {root} does not exist: check its name, and AWS_ENDPOINT_URL if it is set"
        )
    if any(host in text for host in _METADATA):
        wanted = _CREDENTIALS.get(URL(url).scheme, "the variables that obstore documents")
        return f"found no credentials in the environment: set {wanted}: {text}"
    if _NO_CONNECTION in text:
        return (
            f"the server does not answer: check the address {root}, any proxy (HTTPS_PROXY) or "
            f"AWS_ENDPOINT_URL that is set, and whether this machine reaches it: {text}"
        )
    return text
