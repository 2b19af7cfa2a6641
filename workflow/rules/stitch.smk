rule stitch:
    """Probabilities to one id per object over all blocks."""
    input:
        probabilities="<results>/volumes/{volume}/{model}/probabilities.ome.zarr/zarr.json",
        mask=if_masked("<results>/volumes/{volume}/mask.ome.zarr/zarr.json"),
        calibration=if_calibrated("<results>/models/{model}/calibration.json"),
    output:
        "<results>/volumes/{volume}/{model}/labels.ome.zarr/zarr.json",
    log:
        "<logs>/stitch/{volume}.{model}.log",
    benchmark:
        "<benchmarks>/stitch/{volume}.{model}.tsv"
    group:
        if_small("finish")
    threads: threads_up_to(8)
    resources:
        mem_mb=memory_of("stitch"),
        runtime=minutes_of("stitch"),
    params:
        nodes=nodes_of("stitch"),
        config=settings("stitch"),
        calibration=option("--calibration", "calibration"),
        mask=option("--mask", "mask"),
    shell:
        "unet-core stitch --config {params.config:q} --probabilities {input.probabilities:q}"
        " {params.calibration} {params.mask} --out {output:q} --threads {threads} {params.nodes}"
        " --memory-mb {resources.mem_mb} 2> {log:q}"


over_nodes("stitch")
