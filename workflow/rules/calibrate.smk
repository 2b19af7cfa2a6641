rule calibrate:
    """How objects are made, chosen on the volumes of fold validation."""
    input:
        probabilities=collect(
            "<results>/volumes/{volume}/{{model}}/probabilities.ome.zarr/zarr.json",
            volume=asked.fold("validation"),
        ),
        truth=collect(
            "<results>/volumes/{volume}/truth.ome.zarr/zarr.json",
            volume=asked.fold("validation"),
        ),
        masks=collect(
            "<results>/volumes/{volume}/mask.ome.zarr/zarr.json",
            volume=[v for v in asked.fold("validation") if asked.volumes[v].mask],
        ),
    output:
        "<results>/models/{model}/calibration.json",
    log:
        "<logs>/calibrate/{model}.log",
    benchmark:
        "<benchmarks>/calibrate/{model}.tsv"
    threads: 8
    resources:
        mem_mb=memory_of("calibrate", asked.fold("validation")),
        runtime=minutes_of("calibrate", asked.fold("validation")),
    params:
        nodes=nodes_of("calibrate"),
        config=settings("calibrate"),
        masks=option("--mask", "masks"),
    shell:
        "unet-core calibrate --config {params.config:q} --probabilities {input.probabilities:q}"
        " --truth {input.truth:q} {params.masks} --out {output:q} --threads {threads} {params.nodes}"
        " --memory-mb {resources.mem_mb} 2> {log:q}"


over_nodes("calibrate", volumes=asked.fold("validation"))
