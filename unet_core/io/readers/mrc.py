"""MRC2014 files: maps, image stacks, tomograms."""

import struct
import warnings
from pathlib import Path

import mrcfile
import numpy as np

from unet_core.errors import RawFormatError
from unet_core.geometry import Box
from unet_core.io.readers.axes import Layout, voxel_size
from unet_core.io.readers.raw import Array, RawVolume

_IMOD_STAMP = 1146047817


def open_mrc(source: str) -> RawVolume:
    """Open an MRC file; voxel sizes that are not positive are taken as unknown."""
    path = Path(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oddities of headers; the data's size is checked below
        with mrcfile.mmap(path, mode="r") as file:
            if file.data is None:
                raise RawFormatError(f"{source} holds no image")
            shape, dtype, offset = file.data.shape, file.data.dtype, int(file.data.offset)
            lengths = {axis: float(file.voxel_size[axis]) / 10 for axis in "zyx"}  # from angstrom
    if dtype.kind not in "iuf":
        raise RawFormatError(f"{source} holds {dtype} values (a transform?); needed are images")
    if dtype == np.int8 and _imod_unsigned(path):
        dtype = np.dtype(np.uint8)
    layout = Layout.of("tzyx"[-len(shape) :], shape, source)
    size = voxel_size(lengths) if lengths["z"] > 0 else None

    def fetch(box: Box) -> Array:
        mapped = np.memmap(path, dtype, "r", offset, shape)
        return layout.arrange(mapped[layout.index(box)])

    return RawVolume(source, layout.shape, dtype.newbyteorder("="), size, (1, 1, 1), fetch)


def _imod_unsigned(path: Path) -> bool:
    """Whether IMOD wrote the file with bytes 0..255, which its header says in words of its own."""
    with path.open("rb") as file:
        header = file.read(160)
    for order in "<>":
        stamp, flags = struct.unpack_from(f"{order}ii", header, 152)
        if stamp == _IMOD_STAMP:
            return not flags & 1
    return False
