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
    wildcard_constraints:
        volume=any_of(alone),
    threads: 8
    resources:
        gpu=0,
        mem_mb=memory_of("infer"),
        runtime=minutes_of("infer"),
    params:
        config=settings("infer", "model"),
        running=running,
        mask=option("--mask", "mask"),
    shell:
        "unet-core infer --config {params.config:q} --running {params.running:q}"
        " --raw {input.raw:q} {params.mask}"
        " --checkpoint {input.checkpoint:q} --out {output:q} --threads {threads}"
        " --gpus {resources.gpu} --memory-mb {resources.mem_mb} 2> {log:q}"


for batch, names in asked.batches.items():

    # A checkpoint, so that the plan is made anew after it: volumes of the batch that were found
    # done have the bytes they had, and what follows of them is not run again.
    checkpoint:
        """Class probabilities of all volumes of one batch, one after another in one process."""
        name:
            f"infer_{batch}"
        input:
            raw=collect(
                "<results>/volumes/{volume}/raw.ome.zarr/zarr.json", volume=names
            ),
            masks=collect(
                "<results>/volumes/{volume}/mask.ome.zarr/zarr.json",
                volume=masked(names),
            ),
            model=of_members("<results>/models/{model}/model.json"),
            checkpoint=ancient(of_members("<results>/models/{model}/best.pt")),
        output:
            collect(
                "<results>/volumes/{volume}/{{model}}/probabilities.ome.zarr/zarr.json",
                volume=names,
            ),
        log:
            f"<logs>/infer/{batch}.{{model}}.log",
        benchmark:
            f"<benchmarks>/infer/{batch}.{{model}}.tsv"
        threads: threads_of("infer", 8)
        resources:
            gpu=0,
            mem_mb=memory_of("infer", names),
            runtime=minutes_of("infer", names),
        params:
            config=settings("infer", "model"),
            running=running,
            mask=masks_of(names),
        shell:
            "unet-core infer --config {params.config:q} --running {params.running:q}"
            " --raw {input.raw:q} {params.mask}"
            " --checkpoint {input.checkpoint:q} --out {output:q} --threads {threads}"
            " --gpus {resources.gpu} --memory-mb {resources.mem_mb} 2> {log:q}"

    set_resources(f"infer_{batch}", like="infer")
