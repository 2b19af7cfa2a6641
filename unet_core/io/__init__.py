"""Files in and out: raw formats, zarr stores, the ledger."""
