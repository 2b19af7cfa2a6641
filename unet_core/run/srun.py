"""Workers as steps of a Slurm job: one `srun` for each, watched, and started again."""

import logging
import subprocess
import threading
import time
from collections.abc import Sequence

log = logging.getLogger(__name__)

_STARTS, _SOON_S = 5, 10.0
"""A worker that ends so soon so many times in a row is not started again."""

_TOLD_AGAIN_S = (2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0, 60.0, 60.0)
"""Pauses where Slurm does not answer."""

_LEAVES_S, _ENDS_S = 5.0, 60.0
"""For the steps to end when told to; for Slurm to end them."""


class Steps:
    """One supervised `srun` for each of `count` workers; ends them all as a context manager."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], count: int) -> None:
        self._command, self._environment = list(command), environment
        self._clients: dict[str, subprocess.Popen[bytes]] = {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._watchers = [
            threading.Thread(target=self._watch, args=[slot], name=f"step {slot}", daemon=True)
            for slot in range(count)
        ]

    def __enter__(self) -> "Steps":
        for watcher in self._watchers:
            watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End all steps; those whose workers were told to end are given a moment."""
        self.start_none()
        clients = list(self._clients.values())
        for patience_s, end in ((_LEAVES_S, subprocess.Popen.terminate), (_ENDS_S, _kill)):
            _wait(clients, patience_s)
            for client in clients:
                if client.poll() is None:
                    end(client)
        for watcher in self._watchers:
            watcher.join()

    def start_none(self) -> None:
        """From now on, a step that ends is not replaced."""
        with self._lock:
            self._stop.set()

    @property
    def hopeless(self) -> bool:
        """Is no step left, nor started again?"""
        return not any(watcher.is_alive() for watcher in self._watchers)

    def has_ended(self, name: str) -> bool:
        """Has the `srun` of this worker ended?"""
        client = self._clients.get(name.split("@")[0])
        return client is None or client.poll() is not None

    def kill(self, name: str) -> None:
        """SIGKILL to a step; `name`: `slot.start@job.step`."""
        client = self._clients.get(name.split("@")[0])
        if client is None or client.poll() is not None:
            return
        tell_slurm(["scancel", "--signal=KILL", name.split("@")[-1]])

    def _watch(self, slot: int) -> None:
        """Keep one worker running."""
        start = soon = 0
        while soon < _STARTS:
            began, name = time.monotonic(), f"{slot}.{start}"
            if (end := self._run(name)) is None:
                return
            soon = soon + 1 if time.monotonic() - began < _SOON_S else 0
            log.warning("worker %s: its step ended (srun: %s)", name, end)
            self._stop.wait(soon)
            start += 1
        log.error("worker %d ended %d times right after its start; it is left out", slot, _STARTS)

    def _run(self, name: str) -> str | None:
        """Start a worker and wait for its end; how that was, None where all are to end."""
        try:
            with self._lock:
                if self._stop.is_set():
                    return None
                client = self._clients[name] = subprocess.Popen(
                    [*self._command, name],
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # what ends the driver's group is for the driver
                )
        except OSError as error:  # a node without room for a process, a file system that is away
            return str(error)
        status = client.wait()
        return None if self._stop.is_set() else str(status)


def tell_slurm(command: Sequence[str]) -> None:
    """Run a command of Slurm in a thread, again and again until Slurm answers."""
    threading.Thread(target=_tell, args=[command], daemon=True).start()


def _wait(clients: Sequence["subprocess.Popen[bytes]"], seconds: float) -> None:
    end = time.monotonic() + seconds
    while any(client.poll() is None for client in clients) and time.monotonic() < end:
        time.sleep(0.05)


def _kill(client: "subprocess.Popen[bytes]") -> None:
    client.kill()


def _tell(command: Sequence[str]) -> None:
    for pause_s in (*_TOLD_AGAIN_S, None):
        run = subprocess.run(command, capture_output=True, text=True)
        ended = any(words in run.stderr for words in ("Invalid job", "already completing"))
        if not run.returncode or ended:
            return
        log.warning("%s: %s", " ".join(command), run.stderr.strip())
        if pause_s is not None:
            time.sleep(pause_s)
