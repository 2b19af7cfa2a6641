"""Batch segmentation of large volumes with the U-Net, from raw files to scored objects.

Layers, lowest first; imports point down only (tests/test_layers.py):

    errors                                words
    config, geometry, provenance          values
    io, ops, metrics, net, figures        crafts (siblings do not know each other)
    run                                   crew: dask workers over blocks
    stages                                one function per stage
    cli                                   strings to arguments
"""

__version__ = "0.1.0"
