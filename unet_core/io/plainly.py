"""Errors of a disk in words: what is full or closed, and what to do."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unet_core.errors import StoreError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""A full disk, a full quota, a limit on the size of files."""

_NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def told_plainly(result: Path) -> Iterator[None]:
    """Say what is missing to write `result`, a file or folder of which what is finished is kept.

    Raises
    ------
    StoreError
        For an `OSError` within that says that there is no room, or no right to write.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_RIGHT and error.filename is not None:
            raise StoreError(_told_right(result, error)) from error
        if error.errno not in _NO_ROOM:
            raise
        raise StoreError(
            f"no room for {result}: {error}; what is finished is kept: free some space, or raise "
            "the limit, and run the same command again"
        ) from error


def _told_right(result: Path, error: OSError) -> str:
    path = Path(error.filename).resolve()
    there = next((each for each in (path.parent, *path.parents) if each.exists()), Path("/"))
    found, groups = there.stat(), sorted({os.getegid(), *os.getgroups()})
    return (
        f"{result} cannot be written: {error}; {there} is {stat.filemode(found.st_mode)} of user "
        f"{found.st_uid} and group {found.st_gid}, this process is user {os.geteuid()} of group(s) "
        f"{', '.join(map(str, groups))}; what is finished is kept: have its owner give the right "
        "(chmod g+w, umask 002), or write to results of your own"
    )
