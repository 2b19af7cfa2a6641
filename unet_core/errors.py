"""Every refusal the package makes.

    UNetCoreError
    ├── ConfigError       a setting or a row of the volume sheet is wrong
    ├── RawFormatError    a file of the user's cannot be read as a volume
    ├── StoreError        a zarr store of ours is missing, partial or not what was expected
    │   ├── AccessError   a file of it cannot be read or written now
    │   └── DamageError   what was read of it fails its checksum or cannot be decoded
    ├── PlanError         the work cannot be cut or does not fit the memory given
    ├── CheckpointError   a checkpoint is not what it should be
    ├── BlockError        blocks failed after retries; the others are finished and kept
    │   ├── VolumeError   volumes of a list failed; the others are finished
    │   └── Hung          one hangs in this process, which has to end without waiting for it
    ├── RankError         one of the processes that train together ended badly
    └── Interrupted       the job was asked to end; what is finished is kept

Messages say what was given, what is needed and what to do.
"""


class UNetCoreError(Exception):
    """Base of all; `unet-core` prints its message without a traceback and exits 1."""

    exit_code = 1


class ConfigError(UNetCoreError, ValueError):
    """A setting or a row of the volume sheet is wrong."""


class RawFormatError(UNetCoreError):
    """A file of the user's cannot be read as a volume."""


class StoreError(UNetCoreError):
    """A zarr store of ours is missing, partial or not what was expected."""


class AccessError(StoreError, OSError):
    """A file of a store cannot be read or written now; another try may succeed.

    Made of the number of the error (`errno`, None where it has none) and the message.
    """

    def __str__(self) -> str:
        return str(self.args[-1])


class DamageError(StoreError):
    """What was read of a store fails its checksum or cannot be decoded.

    Another try may succeed, where not the file is damaged but what brought it here.
    """


class PlanError(UNetCoreError):
    """The work cannot be cut as asked, or does not fit the memory given."""


class CheckpointError(UNetCoreError):
    """A checkpoint is not what it should be."""


class BlockError(UNetCoreError):
    """Blocks failed after retries; the others are finished and kept."""


class VolumeError(BlockError):
    """Volumes of a list failed; the others are finished."""


class Hung(BlockError):
    """A block hangs in this process: `unet-core` ends without waiting for its thread."""


class RankError(UNetCoreError):
    """One of the processes that train together ended badly; what was saved is kept."""


class Interrupted(UNetCoreError):
    """The job was asked to end (SIGTERM, SIGINT, SIGUSR1); what is finished is kept."""

    exit_code = 143
