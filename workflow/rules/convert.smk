rule convert:
    """Any raw or truth format to a sharded, multiscale OME-Zarr store."""
    input:
        archived,
    output:
        "<results>/volumes/{volume}/{image}.ome.zarr/zarr.json",
    log:
        "<logs>/convert/{volume}.{image}.log",
    benchmark:
        "<benchmarks>/convert/{volume}.{image}.tsv"
    threads: 4
    resources:
        mem_mb=grows(8000),
        runtime=grows(120),
    params:
        config=settings("convert", "volume", "image"),
        content=content,
        raw=location,
        kind=lambda wildcards: "--truth" if wildcards.image == "truth" else "",
    shell:
        "unet-core convert --config {params.config:q} --raw {params.raw:q} {params.kind}"
        " --out {output:q} --threads {threads} --memory-mb {resources.mem_mb} 2> {log:q}"
