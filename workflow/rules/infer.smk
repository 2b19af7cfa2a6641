rule infer:
    """Class probabilities of one volume, block by block."""
    input:
        raw="<results>/volumes/{volume}/raw.ome.zarr/zarr.json",
        mask=if_masked("<results>/volumes/{volume}/mask.ome.zarr/zarr.json"),
        # model.json holds the digest of best.pt: it says when the weights are new.
        model=of_members("<results>/models/{model}/model.json"),
        checkpoint=ancient(of_members("<results>/models/{model}/best.pt")),
    output:
        "<results>/volumes/{volume}/{model}/probabilities.ome.zarr/zarr.json",
    log:
        "<logs>/infer/{volume}.{model}.log",
    benchmark:
        "<benchmarks>/infer/{volume}.{model}.tsv"
    threads: 8
    resources:
        gpu=0,
        mem_mb=grows(16000),
        runtime=grows(480),
    params:
        config=settings("infer", "model"),
        running=running,
        mask=option("--mask", "mask"),
    shell:
        "unet-core infer --config {params.config:q} --running {params.running:q}"
        " --raw {input.raw:q} {params.mask}"
        " --checkpoint {input.checkpoint:q} --out {output:q} --threads {threads}"
        " --gpus {resources.gpu} --memory-mb {resources.mem_mb} 2> {log:q}"
