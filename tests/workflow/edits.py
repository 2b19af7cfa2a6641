"""Another value for every setting, which stages read it, and what follows from them."""

import re
from typing import Any

SECTION_READERS: dict[str, set[str]] = {
    "convert": {"convert raw", "convert truth"},
    "truth": {"convert truth"},
    "weights": {"weights"},
    "augment": {"augment train", "augment validation"},
    "model": {"train"},
    "train": {"train"},
    "infer": {"infer"},
    "objects": {"calibrate", "stitch", "score"},
    "calibrate": {"calibrate"},
    "stitch": {"stitch"},
    "score": {"score"},
    "report": {"montage", "report"},
}

SETTING_READERS: dict[str, set[str]] = {
    "augment.patches": {"augment train"},
    "augment.elastic_sd_px": {"augment train"},
    "augment.elastic_nodes": {"augment train"},
    "augment.symmetries": {"augment train"},
    "augment.rotation": {"augment train"},
    "augment.scale": {"augment train"},
    "augment.jitter": {"augment train"},
    "augment.contrast": {"augment train"},
    "augment.brightness": {"augment train"},
    "augment.saturation": {"augment train"},
    "augment.hue": {"augment train"},
    "augment.noise_sd": {"augment train"},
    "augment.validation_patches": {"augment validation"},
    "infer.tile_px": set(),
    "infer.on_error": set(),
    "infer.spread": set(),
    "infer.slab": set(),
    "report.title": {"report"},
}
"""Settings that not all readers of their section read; of infer those that decide no voxel."""

FOLLOWERS: dict[str, set[str]] = {
    "convert raw": {"augment train", "augment validation", "infer", "montage"},
    "convert mask": {"infer", "calibrate", "stitch", "score"},
    "convert truth": {"weights", "calibrate", "score", "montage"},
    "weights": {"augment train", "augment validation"},
    "augment train": {"train"},
    "augment validation": {"train"},
    "train": {"infer", "report"},
    "infer": {"calibrate", "stitch", "score", "montage"},
    "calibrate": {"stitch", "score", "report"},
    "stitch": {"score", "montage", "all"},
    "score": {"report"},
    "montage": {"report"},
    "report": {"all"},
    "all": set(),
}

EDITS: dict[str, Any] = {
    "convert.chunk": [32, 64, 64],
    "convert.shard": [64, 512, 512],
    "convert.codec": "lz4",
    "convert.smallest_level_px": 128,
    "truth.kind": "binary",
    "truth.objects": "volume",
    "truth.ignore_label": 7,
    "weights.border_px": 2,
    "weights.border_weight": 5,
    "weights.border_sigma_px": 4,
    "weights.near_weight": 0.9,
    "weights.near_sigma_px": 8,
    "weights.distances": "volume",
    "weights.affinities": [[0, -1, 0]],
    "augment.seed": 1,
    "augment.patches": 1001,
    "augment.validation_patches": 33,
    "augment.patch": [1, 192, 192],
    "augment.normalise": "percentile",
    "augment.elastic_sd_px": 5,
    "augment.elastic_nodes": 4,
    "augment.symmetries": False,
    "augment.rotation": True,
    "augment.scale": [0.5, 2.0],
    "augment.jitter": "colours",
    "augment.contrast": 0.2,
    "augment.brightness": 0.2,
    "augment.saturation": 0.5,
    "augment.hue": 0.1,
    "augment.noise_sd": 0.01,
    "augment.border_bias": 0.5,
    "augment.foreground_share": 0.33,
    "augment.background_chance": 0.1,
    "augment.largest_share": 0.75,
    "augment.shard_patches": 8,
    "model.dimensions": 3,
    "model.channels": 2,
    "model.sections": 3,
    "model.classes": 3,
    "model.width": 16,
    "model.depth": 1,
    "model.convolutions": 1,
    "model.padding": "same",
    "model.norm": "batch",
    "model.activation": "leaky_relu",
    "model.up": "nearest",
    "model.dropout": 0.25,
    "train.seed": 1,
    "train.steps": 11,
    "train.batch": 2,
    "train.optimiser": "adam",
    "train.learning_rate": 0.01,
    "train.momentum": 0.9,
    "train.weight_decay": 0.1,
    "train.schedule": "cosine",
    "train.warmup_steps": 1,
    "train.class_weights": "uniform",
    "train.clip_norm": 1,
    "train.precision": "float32",
    "train.validate_every": 5,
    "infer.tile_px": 192,
    "infer.dtype": "float16",
    "infer.precision": "float32",
    "infer.window": [64, 48],
    "infer.window_stride": 32,
    "infer.window_weight": "gaussian",
    "infer.averaging": "symmetries",
    "infer.averaged": "logits",
    "infer.region": [[0, 2], [0, 16], [0, 16]],
    "infer.classes": [0, 1],
    "infer.downsample": [1, 2, 2],
    "infer.on_error": "skip-and-report",
    "infer.spread": "slabs",
    "infer.slab": [32, 512, 512],
    "objects.foreground": 2,
    "objects.scope": "volume",
    "objects.min_size_vx": 30,
    "calibrate.methods": ["threshold"],
    "calibrate.thresholds": 61,
    "calibrate.smoothing_px": [1.0],
    "calibrate.depths": [0.1],
    "calibrate.measure": "adapted_rand",
    "stitch.method": "threshold",
    "stitch.threshold": 0.4,
    "stitch.smoothing_px": 2,
    "stitch.depth": 0.1,
    "score.isbi": False,
    "score.thresholds": 12,
    "score.iou_thresholds": [0.5],
    "report.title": "Another",
    "report.sections": 4,
    "report.width_px": 320,
}
"""Another value for every setting there is but those of `TOLD`."""

TOLD: dict[str, Any] = {
    "pretrained.file": "weights.pth",
    "pretrained.preset": "milesial",
    "pretrained.part": "encoder",
    "pretrained.normalise": "none",
    "pretrained.order": [2, 1, 0],
    "train.frozen": "encoder",
    "train.layer_decay": 0.9,
    "model.architecture": "unetpp",
    "model.output": "sigmoid",
    "model.encoder": "resnet18",
    "model.widths": [8, 16, 16],
    "model.decoder_widths": [16, 16],
    "model.up_widths": [16, 16],
    "model.strides": [[2, 2], [2, 2]],
    "model.kernels": [[3, 3], [3, 3], [3, 3]],
    "model.decoder_convolutions": 2,
    "model.kernel": 1,
    "model.partial_padding": True,
    "model.groups": 4,
    "model.norm_affine": False,
    "model.decoder_norm": "batch",
    "model.norm_eps": 0.001,
    "model.norm_momentum": 0.01,
    "model.order": "conv_act_norm",
    "model.decoder_order": "conv_act_norm",
    "model.conv_bias": False,
    "model.slope": 0.01,
    "model.separable": True,
    "model.standardised": True,
    "model.middle": "half_outputs",
    "model.decoder_middle": "half_inputs",
    "model.down": "convolution",
    "model.up_kernel": 2,
    "model.up_bias": False,
    "model.up_norm": "batch",
    "model.up_activation": True,
    "model.align_corners": True,
    "model.join": "up_skip",
    "model.skip": "after_pooling",
    "model.full_size": False,
    "model.fit": "pad",
    "model.dropout_levels": [1],
    "model.dropout_place": "between",
    "model.decoder_dropout": True,
    "model.dropout_channels": True,
    "model.head": "narrow",
    "model.head_kernel": 3,
    "model.auxiliary": 0.4,
    "model.supervision": "levels",
    "model.dilations": [1, 2, 3],
    "model.at_once": True,
    "model.shift": 0.5,
    "train.loss": "focal",
    "train.loss_weight": 0.5,
    "train.focal_gamma": 1,
    "train.ignored": "counted",
    "train.dice": "global",
    "train.dice_weight": 3,
    "train.nesterov": True,
    "train.schedule_every": 2,
    "train.min_learning_rate": 1e-6,
    "train.rate_factor": 0.5,
    "train.patience": 2,
    "train.plateau_by": "loss",
}
"""Settings of network and recipe that are passed to training with those above, in one string."""

ALONGSIDE: dict[str, dict[str, Any]] = {
    # A 3-D network takes 3-D patches, a third class needs a network that has one.
    "model.dimensions": {"augment": {"patch": [44, 188, 188]}},
    "model.sections": {"augment": {"patch": [3, 188, 188]}},
    "model.convolutions": {"augment": {"patch": [1, 190, 190]}},
    "objects.foreground": {"model": {"classes": 3}},
    "weights.affinities": {"model": {"output": "sigmoid"}},
    "augment.jitter": {"model": {"channels": 3}},
    "augment.saturation": {"augment": {"jitter": "colours"}, "model": {"channels": 3}},
    "augment.hue": {"augment": {"jitter": "colours"}, "model": {"channels": 3}},
}
"""What must be set as well for an edit to be accepted."""


def after(readers: set[str]) -> set[str]:
    """`readers` and all stages that use what they make."""
    reached, new = set(), set(readers)
    while new:
        reached |= new
        new = set().union(*(FOLLOWERS[stage] for stage in new)) - reached
    return reached


def stages(jobs: set[str]) -> set[str]:
    """Jobs without their volume and model: ``convert raw``, ``augment train``, ``infer``."""
    told = (re.sub(r" (volume|model)=\S+", "", job) for job in jobs)
    return {re.sub(r" (image|fold)=", " ", stage) for stage in told}


def of_volume(jobs: set[str], name: str) -> set[str]:
    return {job for job in jobs if f"volume={name}" in job}


def edit(key: str) -> dict[str, Any]:
    section, name = key.split(".")
    both = {section: {name: EDITS[key]}}
    for other, settings in ALONGSIDE.get(key, {}).items():
        both[other] = {**settings, **both.get(other, {})}
    return both
