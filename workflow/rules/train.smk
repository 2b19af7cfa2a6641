rule train:
    """One model, from patches to its best checkpoint."""
    input:
        patches="<results>/patches/train.zarr/zarr.json",
        validation=if_validated("<results>/patches/validation.zarr/zarr.json"),
    output:
        best="<results>/models/{model}/best.pt",
        model="<results>/models/{model}/model.json",
        history="<results>/models/{model}/history.csv",
    log:
        "<logs>/train/{model}.log",
    benchmark:
        "<benchmarks>/train/{model}.tsv"
    wildcard_constraints:
        model="|".join(asked.models),
    threads: 8
    resources:
        gpu=0,
        mem_mb=memory_of("train", []),
        runtime=minutes_of("train", []),
    params:
        nodes=nodes_of("train"),
        config=settings("train", "model"),
        validation=option("--validation", "validation"),
    shell:
        "unet-core train --config {params.config:q} --patches {input.patches:q}"
        " {params.validation} --out {output.best:q} --threads {threads} {params.nodes}"
        " --gpus {resources.gpu} --memory-mb {resources.mem_mb} 2> {log:q}"


over_nodes("train", survives=False)
