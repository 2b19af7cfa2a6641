rule import_initial:
    """Weights of a file that training begins with."""
    output:
        best="<results>/models/{model}/initial.pt",
    log:
        "<logs>/import/{model}.log",
    benchmark:
        "<benchmarks>/import/{model}.tsv"
    wildcard_constraints:
        model=any_of(trained),
    threads: 1
    resources:
        mem_mb=4000,
        runtime=20,
    params:
        config=settings("import", "model"),
        content=weights_content,
        file=weights_file,
        seed=seed_of,
    shell:
        "unet-core import {params.file:q} --config {params.config:q} --seed {params.seed}"
        " --out {output.best:q} 2> {log:q}"


use rule import_initial as import_weights with:
    # A model that is used as it was trained before.
    output:
        best="<results>/models/{model}/best.pt",
        model="<results>/models/{model}/model.json",
        history="<results>/models/{model}/history.csv",
    wildcard_constraints:
        model=any_of(asked.ready),


rule train:
    """One model, from patches to its best checkpoint."""
    input:
        patches="<results>/patches/train.zarr/zarr.json",
        validation=if_validated("<results>/patches/validation.zarr/zarr.json"),
        initial=if_pretrained("<results>/models/{model}/initial.pt"),
    output:
        best="<results>/models/{model}/best.pt",
        model="<results>/models/{model}/model.json",
        history="<results>/models/{model}/history.csv",
    log:
        "<logs>/train/{model}.log",
    benchmark:
        "<benchmarks>/train/{model}.tsv"
    wildcard_constraints:
        model=any_of(trained),
    threads: 8
    resources:
        gpu=0,
        mem_mb=memory_of("train", []),
        runtime=minutes_of("train", []),
    params:
        nodes=nodes_of("train"),
        config=settings("train", "model"),
        validation=option("--validation", "validation"),
        initial=option("--initial", "initial"),
    shell:
        "unet-core train --config {params.config:q} --patches {input.patches:q}"
        " {params.validation} {params.initial} --out {output.best:q} --threads {threads} {params.nodes}"
        " --gpus {resources.gpu} --memory-mb {resources.mem_mb} 2> {log:q}"


over_nodes("train", survives=False)
