"""Files of the user's as volumes: which reader opens what."""

import glob
from collections.abc import Callable
from pathlib import Path

from unet_core.errors import RawFormatError
from unet_core.io.readers import hdf5, mrc, series, tiff, zarr_store
from unet_core.io.readers.raw import DAMAGE, RawVolume, damaged

_READERS: dict[str, Callable[[str], RawVolume]] = {
    **dict.fromkeys((".tif", ".tiff", ".btf", ".tf8"), tiff.open_tiff),
    **dict.fromkeys((".png", ".jpg", ".jpeg"), series.open_series),
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), hdf5.open_hdf5),
    **dict.fromkeys((".mrc", ".map", ".rec", ".st", ".ali"), mrc.open_mrc),
}

SUPPORTED = (
    "TIFF (.tif .tiff .btf .tf8), a folder or glob of TIFF, PNG or JPEG sections, one .png or "
    ".jpg, HDF5 (FILE.h5::DATASET), MRC (.mrc .map .rec .st .ali), zarr and OME-Zarr folders"
)


def open_raw(source: str) -> RawVolume:
    """Open a file, folder or series of the user's by its name; reads headers only.

    Parameters
    ----------
    source
        File; ``FILE.h5::DATASET``; zarr folder (or an array within it); folder of sections; glob
        of sections.

    Raises
    ------
    RawFormatError
        If there is no such file, its format is not supported, or it is damaged.
    """
    reader = _reader_of(source)
    try:
        return reader(source)
    except DAMAGE as error:
        raise damaged(source, error) from error


def _reader_of(source: str) -> Callable[[str], RawVolume]:
    name = source.partition("::")[0]
    path = Path(name)
    if path.is_dir():
        if (path / "attributes.json").is_file() or path.suffix.lower() == ".n5":
            raise _unsupported(source, "N5")
        if (path / "info").is_file():
            raise _unsupported(source, "Neuroglancer precomputed")
        return zarr_store.open_zarr if zarr_store.is_zarr(path) else series.open_series
    if not path.exists():
        if glob.has_magic(name):
            return series.open_series
        raise RawFormatError(f"{name}: no such file or folder; check the path in the volume sheet")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise _unsupported(source, path.suffix.lower() or "a file without suffix")
    if "::" in source and reader is not hdf5.open_hdf5:
        raise RawFormatError(f"{source}: only HDF5 files take ::DATASET; write {name} alone")
    return reader


def _unsupported(source: str, kind: str) -> RawFormatError:
    return RawFormatError(
        f"{source}: {kind} is not supported; supported are {SUPPORTED}. Convert it to one of "
        "these (Fiji with Bio-Formats saves most formats as TIFF)"
    )
