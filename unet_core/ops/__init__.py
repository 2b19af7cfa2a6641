"""Array functions on volumes and sections: numpy in, numpy out; no files, no chunks."""
