rule augment:
    """The bank of patches of one fold, deformed for training."""
    input:
        raw=of_fold("<results>/volumes/{volume}/raw.ome.zarr/zarr.json"),
        weights=of_fold("<results>/volumes/{volume}/weights.ome.zarr/zarr.json"),
    output:
        "<results>/patches/{fold}.zarr/zarr.json",
    log:
        "<logs>/augment/{fold}.log",
    benchmark:
        "<benchmarks>/augment/{fold}.tsv"
    threads: 8
    resources:
        mem_mb=memory_of("augment", []),
        runtime=minutes_of("augment", []),
    params:
        nodes=nodes_of("augment"),
        config=settings("augment", "fold"),
    shell:
        "unet-core augment --config {params.config:q} --raw {input.raw:q}"
        " --weights {input.weights:q} --fold {wildcards.fold} --out {output:q}"
        " --threads {threads} {params.nodes} --memory-mb {resources.mem_mb} 2> {log:q}"


over_nodes("augment", volumes=[])
