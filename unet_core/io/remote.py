"""Stores at an address, s3:// or gs:// or az:// or http(s)://, read and never written.

Credentials, region and end point come from the environment (``AWS_ACCESS_KEY_ID``,
``AWS_ENDPOINT_URL``, ``AWS_SKIP_SIGNATURE``, ...), never from a setting.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from zarr.storage import ObjectStore

from unet_core.errors import AccessError, StoreError

REQUESTS = 8
"""Shards asked for at a time: most of a request is waiting."""


@dataclass(frozen=True)
class Url:
    """The address of a store, without a slash at its end."""

    address: str

    def __str__(self) -> str:
        return self.address

    @property
    def name(self) -> str:
        """Its last part, as of a path."""
        return self.address.rsplit("/", 1)[-1]

    def store(self, name: str = "") -> "Remote":
        """The objects below the address and `name`.

        Raises
        ------
        StoreError
            If obstore is not installed, or does not know such addresses.
        """
        try:
            from obstore.store import HTTPStore, from_url
        except ImportError:
            raise StoreError(
                f"to read {self} the package obstore is needed: pip install obstore"
            ) from None
        address = "/".join([self.address, name]).rstrip("/")
        with asking(self):
            if self.address.startswith("http:"):
                plain = HTTPStore.from_url(address, client_options={"allow_http": True})
                return Remote(plain)
            return Remote(from_url(address))

    def text(self, name: str) -> str:
        """The file `name` below the address.

        Raises
        ------
        FileNotFoundError
            If there is none.
        AccessError
            If the store does not answer or refuses.
        """
        store = self.store()
        with asking(self):
            return bytes(store.store.get(name).bytes()).decode()


Location: TypeAlias = Path | Url
"""A folder, or an address that can be read and not written."""


def location(text: str) -> Location:
    """The path or address that `text` names; ``/zarr.json`` at its end is left out."""
    text = re.sub(r"/+(zarr\.json)?$", "", text)
    return Url(text) if re.match(r"[a-z][a-z0-9+]+://", text) else Path(text)


@contextmanager
def asking(where: object) -> Iterator[None]:
    """Errors of an object store are told in one line; FileNotFoundError stays what it is.

    Raises
    ------
    AccessError
        If the store does not answer or refuses.
    """
    from obstore.exceptions import BaseError

    try:
        yield
    except BaseError as error:
        what = str(error).strip().partition("\n")[0]
        raise AccessError(
            None,
            f"{where} cannot be read ({what}); see to the address, the network and the "
            "credentials in the environment (for s3 AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...)",
        ) from error


class Remote(ObjectStore[Any]):
    """An object store that is read, and the ends of objects that it was asked for."""

    def __init__(self, store: Any) -> None:
        super().__init__(store, read_only=True)
        self.tails: dict[str, bytes] = {}

    def tail(self, key: str, size: int) -> bytes:
        """The last `size` bytes of an object, or all where it has fewer."""
        from obstore.exceptions import NotSupportedError

        if key not in self.tails:
            try:
                found = self.store.get(key, options={"range": {"suffix": size}})
                self.tails[key] = bytes(found.bytes())
            except NotSupportedError:  # Azure counts from the start alone
                whole = self.store.head(key)["size"]
                some = self.store.get_range(key, start=max(0, whole - size), end=whole)
                self.tails[key] = bytes(some)
        return self.tails[key]


@dataclass(frozen=True)
class Objects:
    """Opens objects below an array as files are opened (`shards.Source`)."""

    store: Remote
    path: str

    @contextmanager
    def __call__(self, name: str) -> Iterator["Object"]:
        """The object `name` below the array, which is asked for when it is read."""
        key = "/".join(filter(None, [self.path, name]))
        with asking(name):
            yield Object(self.store, key)


@dataclass(frozen=True)
class Object:
    """One object of a store."""

    store: Remote
    key: str

    def tail(self, size: int) -> bytes:
        """Its last `size` bytes, or all where it has fewer; asked for once."""
        return self.store.tail(self.key, size)

    def parts(self, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """The bytes at each (offset, length), in order; those that lie close in one request."""
        if ranges:
            starts, lengths = zip(*ranges, strict=True)
            found = self.store.store.get_ranges(self.key, starts=starts, lengths=lengths)
            yield from map(bytes, found)
