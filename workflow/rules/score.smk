rule score:
    """Labels and probabilities of one volume against its truth."""
    input:
        labels="<results>/volumes/{volume}/{model}/labels.ome.zarr/zarr.json",
        probabilities="<results>/volumes/{volume}/{model}/probabilities.ome.zarr/zarr.json",
        truth="<results>/volumes/{volume}/truth.ome.zarr/zarr.json",
        mask=if_masked("<results>/volumes/{volume}/mask.ome.zarr/zarr.json"),
        calibration=if_calibrated("<results>/models/{model}/calibration.json"),
    output:
        "<results>/volumes/{volume}/{model}/scores.json",
    log:
        "<logs>/score/{volume}.{model}.log",
    benchmark:
        "<benchmarks>/score/{volume}.{model}.tsv"
    group:
        if_small("finish")
    threads: threads_up_to(8)
    resources:
        mem_mb=memory_of("score"),
        runtime=minutes_of("score"),
    params:
        nodes=nodes_of("score"),
        config=settings("score"),
        calibration=option("--calibration", "calibration"),
        mask=option("--mask", "mask"),
    shell:
        "unet-core score --config {params.config:q} --labels {input.labels:q}"
        " --probabilities {input.probabilities:q} --truth {input.truth:q} {params.calibration} {params.mask}"
        " --out {output:q} --threads {threads} {params.nodes} --memory-mb {resources.mem_mb} 2> {log:q}"


over_nodes("score")
