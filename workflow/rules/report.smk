rule montage:
    """Sections of one volume: raw, boundary, labels and truth side by side."""
    input:
        raw="<results>/volumes/{volume}/raw.ome.zarr/zarr.json",
        probabilities="<results>/volumes/{volume}/{model}/probabilities.ome.zarr/zarr.json",
        labels="<results>/volumes/{volume}/{model}/labels.ome.zarr/zarr.json",
        truth=if_annotated("<results>/volumes/{volume}/truth.ome.zarr/zarr.json"),
        mask=if_masked("<results>/volumes/{volume}/mask.ome.zarr/zarr.json"),
    output:
        report(
            "<results>/volumes/{volume}/{model}/montage.jpg",
            caption="../report/montage.rst",
            category="Volumes",
            subcategory="{volume}",
            labels={"volume": "{volume}", "model": "{model}"},
        ),
    log:
        "<logs>/montage/{volume}.{model}.log",
    benchmark:
        "<benchmarks>/montage/{volume}.{model}.tsv"
    group:
        if_small("finish")
    threads: 1
    resources:
        mem_mb=memory_of("montage", []),
        runtime=minutes_of("montage", []),
    params:
        config=settings("montage"),
        truth=option("--truth", "truth"),
        mask=option("--mask", "mask"),
    shell:
        "unet-core montage --config {params.config:q} --raw {input.raw:q}"
        " --probabilities {input.probabilities:q} --labels {input.labels:q} {params.truth}"
        " {params.mask} --out {output:q} --threads {threads} --memory-mb {resources.mem_mb} 2> {log:q}"


rule report:
    """One self-contained page of scores, curves and pictures, and the scores as a table."""
    input:
        models=collect("<results>/models/{model}/model.json", model=asked.models),
        histories=collect("<results>/models/{model}/history.csv", model=asked.models),
        calibrations=if_calibrated(
            collect(
                "<results>/models/{model}/calibration.json", model=asked.predictors
            )
        ),
        scores=collect(
            "<results>/volumes/{volume}/{model}/scores.json",
            volume=asked.scored,
            model=asked.predictors,
        ),
        montages=collect(
            "<results>/volumes/{volume}/{model}/montage.jpg",
            volume=asked.volumes,
            model=asked.predictors,
        ),
    output:
        index=report(
            "<results>/report/index.html",
            caption="../report/index.rst",
            category="Summary",
            labels={"what": "page"},
        ),
        scores=report(
            "<results>/report/scores.tsv",
            caption="../report/scores.rst",
            category="Summary",
            labels={"what": "scores"},
        ),
        curves=report(
            collect("<results>/report/curves.{model}.svg", model=asked.models),
            caption="../report/curves.rst",
            category="Training",
        ),
    log:
        "<logs>/report/report.log",
    benchmark:
        "<benchmarks>/report/report.tsv"
    threads: 1
    resources:
        mem_mb=memory_of("report", []),
        runtime=minutes_of("report", []),
    params:
        config=settings("report"),
        manifest=asked.manifest(),
        results=parent("index", levels=2),
        run=run_of,
    shell:
        "unet-core report --config {params.config:q} --manifest {params.manifest:q} {params.run}"
        " --results {params.results:q} --out {output.index:q} 2> {log:q}"
