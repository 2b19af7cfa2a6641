rule convert:
    """Any raw, truth or mask format to a sharded OME-Zarr store."""
    input:
        archived,
        like=cut_like,
    output:
        "<results>/volumes/{volume}/{image}.ome.zarr/zarr.json",
    log:
        "<logs>/convert/{volume}.{image}.log",
    benchmark:
        "<benchmarks>/convert/{volume}.{image}.tsv"
    group:
        if_small("prepare")
    threads: threads_up_to(4)
    resources:
        mem_mb=memory_of("convert"),
        runtime=minutes_of("convert"),
    params:
        nodes=nodes_of("convert"),
        config=settings("convert", "volume", "image"),
        content=content,
        raw=location,
        kind=lambda wildcards: {"truth": "--truth"}.get(wildcards.image, ""),
        like=option("--mask-of", "like"),
    shell:
        "unet-core convert --config {params.config:q} --raw {params.raw:q} {params.kind} {params.like}"
        " --out {output:q} --threads {threads} {params.nodes} --memory-mb {resources.mem_mb} 2> {log:q}"


over_nodes("convert")
