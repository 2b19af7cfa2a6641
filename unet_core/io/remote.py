"""Stores at an address, s3:// or gs:// or http(s)://, read and never written.

Credentials, region and end point come from the environment (``AWS_ACCESS_KEY_ID``,
``AWS_ENDPOINT_URL``, ``AWS_SKIP_SIGNATURE``, ...), never from a setting.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from unet_core.errors import AccessError

_PATIENCE_S = 60
"""After which an address that has not answered is given up."""


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

    def kvstore(self, name: str = "") -> dict[str, Any]:
        """tensorstore's description of what is below the address and `name`.

        Raises
        ------
        AccessError
            If it knows no such addresses.
        """
        import tensorstore

        address = "/".join(filter(None, [self.address, name])) + "/"
        try:
            found: dict[str, Any] = tensorstore.KvStore.Spec(address).to_json()
        except ValueError as error:
            raise self._refused(str(error)) from error
        return {**found, **_account()} if found["driver"] == "s3" else found

    def text(self, name: str) -> str:
        """The file `name` below the address.

        Raises
        ------
        FileNotFoundError
            If there is none.
        AccessError
            If the store does not answer or refuses.
        """
        import tensorstore

        from unet_core.io.transfer import context

        spec = self.kvstore()
        try:
            store = tensorstore.KvStore.open(spec, context=context("read")).result()
            found = store.read(name).result(timeout=_PATIENCE_S)
        except (ValueError, RuntimeError, OSError) as error:
            raise self._refused(str(error) or "no answer") from error
        if found.state != "value":
            raise FileNotFoundError(f"{self}/{name}")
        return bytes(found.value).decode()

    def _refused(self, error: str) -> AccessError:
        what = re.sub(r"\s*\[[a-z_]+='.*", "", error, flags=re.DOTALL).partition("\n")[0]
        return AccessError(
            None,
            f"{self} cannot be read ({what}); see to the address, the network and the "
            "credentials in the environment (for s3 AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...)",
        )


Location: TypeAlias = Path | Url
"""A folder, or an address that can be read and not written."""


def location(text: str) -> Location:
    """The path or address that `text` names; ``/zarr.json`` at its end is left out."""
    text = re.sub(r"/+(zarr\.json)?$", "", text)
    return Url(text) if re.match(r"[a-z][a-z0-9+]+://", text) else Path(text)


def _account() -> dict[str, Any]:
    """What the environment says of S3; tensorstore itself looks for credentials there."""
    given: dict[str, Any] = {}
    if end := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        given["endpoint"] = end
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region or end:
        given["aws_region"] = region or "us-east-1"
    if os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes"):
        given["aws_credentials"] = {"type": "anonymous"}
    return given
