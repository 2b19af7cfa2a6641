"""Several jobs that write one store: each some of its blocks, with a ledger and a lock of its own.

Beside the store `X` they stand in `X.slabs`, by the names of the parts. Who makes the whole store
(`io.ledger.building`) waits until none of them is at work, and takes their lines over.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from unet_core.errors import Interrupted, StoreError
from unet_core.io.ledger import Build, slabs_of
from unet_core.io.lines import read_lines, write_lines
from unet_core.io.lock import Lock, holding
from unet_core.io.plainly import told_plainly
from unet_core.provenance import record


@contextmanager
def building_slab(
    store: Path,
    slab: str,
    *,
    stage: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Any],
    ending: Callable[[], bool] = lambda: False,
) -> Iterator[Build]:
    """Go on with the part `slab` of a store that was begun; lines of all that is done are known.

    Raises
    ------
    StoreError
        If the store was not begun with these settings and inputs, or there is no room for what is
        written here or within, or no right to; what is finished is kept.
    Interrupted
        If it was asked to end while it waited.
    """
    provenance = record(stage, settings, inputs)
    name = provenance["fingerprint"]
    part, whole = slabs_of(store) / slab, store.with_name(f"{store.name}.ledger.jsonl")
    with told_plainly(store), ExitStack() as held:
        lock = _begin(held, store, part, ending)
        begun = read_lines(whole, name)
        if begun is None or not store.exists():
            raise StoreError(
                f"{store} was not begun with these settings and inputs, so that no part of it can "
                "be made; run the same command with --prepare first"
            )
        path = part.with_name(f"{slab}.ledger.jsonl")
        own = read_lines(path, name) or {}
        write_lines(path, name, own)
        ledger = held.enter_context(path.open("ab", buffering=0))
        yield Build(store, part.parent, provenance, begun | own, ledger, lock)


def _begin(held: ExitStack, store: Path, part: Path, ending: Callable[[], bool]) -> Lock:
    """Be the one that writes this part, while nobody holds the whole."""
    while True:
        with holding(store, ending=ending), ExitStack() as tried:
            try:
                lock = tried.enter_context(holding(part, ending=lambda: True))
            except Interrupted:
                pass  # another is at it; not waited for here, as others need the store
            else:
                held.enter_context(tried.pop_all())
                return lock
        with holding(part, ending=ending):
            pass
