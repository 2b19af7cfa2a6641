"""Settings that a stage which reads their section does not read."""

TRAINING_ONLY = (
    "patches",
    "elastic_sd_px",
    "elastic_nodes",
    "symmetries",
    "rotation",
    "scale",
    "jitter",
    "contrast",
    "brightness",
    "saturation",
    "hue",
    "noise_sd",
)
"""Settings of augment that the validation bank does not read: its patches are not deformed."""

PAGE_ONLY = ("title",)
"""Settings of report that no montage reads."""

RUNNING = ("tile_px", "on_error", "spread", "slab")
"""Settings of infer that decide no voxel: an edit of them makes nothing stale."""
