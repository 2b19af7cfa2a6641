rule weights:
    """The class of every voxel and the border weight of the loss."""
    input:
        truth="<results>/volumes/{volume}/truth.ome.zarr/zarr.json",
    output:
        "<results>/volumes/{volume}/weights.ome.zarr/zarr.json",
    log:
        "<logs>/weights/{volume}.log",
    benchmark:
        "<benchmarks>/weights/{volume}.tsv"
    group:
        if_small("prepare")
    threads: threads_up_to(8)
    resources:
        mem_mb=memory_of("weights"),
        runtime=minutes_of("weights"),
    params:
        nodes=nodes_of("weights"),
        config=settings("weights"),
    shell:
        "unet-core weights --config {params.config:q} --truth {input.truth:q} --out {output:q}"
        " --threads {threads} {params.nodes} --memory-mb {resources.mem_mb} 2> {log:q}"


over_nodes("weights")
