rule infer:
    """Class probabilities of one volume, block by block."""
    input:
        raw="<results>/volumes/{volume}/raw.ome.zarr/zarr.json",
        mask=if_masked("<results>/volumes/{volume}/mask.ome.zarr/zarr.json"),
        # model.json holds the digest of best.pt: it says when the weights are new.
        model=of_members("<results>/models/{model}/model.json"),
        checkpoint=ancient(of_members("<results>/models/{model}/best.pt")),
        slabs=slabs_done,
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
        runtime=minutes_of_rest,
    params:
        config=settings("infer", "model"),
        running=running_of,
        mask=option("--mask", "mask"),
        part=publishing,
        nodes=nodes_of("infer"),
    shell:
        "unet-core infer {params.part} --config {params.config:q} --running {params.running:q}"
        " --raw {input.raw:q} {params.mask}"
        " --checkpoint {input.checkpoint:q} --out {output:q} --threads {threads}"
        " --gpus {resources.gpu} --memory-mb {resources.mem_mb} {params.nodes} 2> {log:q}"


over_nodes("infer")


rule infer_prepare:
    """Begin the store of a volume that is made slab by slab, without what is stale of it."""
    input:
        raw="<results>/volumes/{volume}/raw.ome.zarr/zarr.json",
        mask=if_masked("<results>/volumes/{volume}/mask.ome.zarr/zarr.json"),
        model=of_members("<results>/models/{model}/model.json"),
        checkpoint=ancient(of_members("<results>/models/{model}/best.pt")),
    output:
        temp(f"{SLABS}/prepared"),
    log:
        "<logs>/infer_prepare/{volume}.{model}.log",
    benchmark:
        "<benchmarks>/infer_prepare/{volume}.{model}.tsv"
    wildcard_constraints:
        volume=any_of(alone),
    threads: 1
    resources:
        gpu=0,
        mem_mb=memory_of("infer"),
        runtime=20,
    params:
        config=settings("infer", "model"),
        running=running_of,
        mask=option("--mask", "mask"),
        out=store_of,
    shell:
        "unet-core infer --prepare --config {params.config:q} --running {params.running:q}"
        " --raw {input.raw:q} {params.mask}"
        " --checkpoint {input.checkpoint:q} --out {params.out:q} --threads {threads}"
        " --gpus {resources.gpu} --memory-mb {resources.mem_mb} 2> {log:q}"


rule infer_slab:
    """Class probabilities of a part of a volume, named by its first voxel, z-y-x."""
    input:
        raw="<results>/volumes/{volume}/raw.ome.zarr/zarr.json",
        mask=if_masked("<results>/volumes/{volume}/mask.ome.zarr/zarr.json"),
        model=of_members("<results>/models/{model}/model.json"),
        checkpoint=ancient(of_members("<results>/models/{model}/best.pt")),
        prepared=f"{SLABS}/prepared",
    output:
        temp(f"{SLABS}/{{slab}}.done"),
    log:
        "<logs>/infer_slab/{volume}.{model}.{slab}.log",
    benchmark:
        "<benchmarks>/infer_slab/{volume}.{model}.{slab}.tsv"
    wildcard_constraints:
        volume=any_of(alone),
        slab=r"\d+-\d+-\d+",
    threads: threads_of("infer")
    resources:
        gpu=0,
        mem_mb=memory_of("infer"),
        runtime=share_of_slab,
    params:
        config=settings("infer", "model"),
        running=running_of,
        mask=option("--mask", "mask"),
        out=store_of,
    shell:
        "unet-core infer --slab {wildcards.slab} --config {params.config:q}"
        " --running {params.running:q} --raw {input.raw:q} {params.mask}"
        " --checkpoint {input.checkpoint:q} --out {params.out:q} --threads {threads}"
        " --gpus {resources.gpu} --memory-mb {resources.mem_mb} 2> {log:q}"


# The number type that auto stands for is that of the device: all of them are given one alike.
for part in ("infer_prepare", "infer_slab"):
    set_resources(part, like="infer")


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
        threads: threads_of("infer")
        resources:
            gpu=0,
            mem_mb=memory_of("infer", names),
            runtime=minutes_of("infer", names),
        params:
            config=settings("infer", "model"),
            running=running,
            mask=masks_of(names),
            nodes=nodes_of("infer"),
        shell:
            "unet-core infer --config {params.config:q} --running {params.running:q}"
            " --raw {input.raw:q} {params.mask}"
            " --checkpoint {input.checkpoint:q} --out {output:q} --threads {threads}"
            " --gpus {resources.gpu} --memory-mb {resources.mem_mb} {params.nodes} 2> {log:q}"

    set_resources(f"infer_{batch}", like="infer")
    over_nodes(f"infer_{batch}", like="infer", volumes=names)
