"""The atlas recipe: what its clusters are worth on real cells, and what it costs.

    python -m tests.bench.atlas [--rounds 3] [--cells 200000] [--output bench-atlas.json]

Prints what the project promises and what was measured, and writes all measurements as JSON. Real cells are those of
five lines from five experiments; where they are not at hand, their rows are left out, and the table says so.
"""

import argparse
import json
import os
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.base.settings import Settings
from tasks.core.dataset.synthetic import write_dataset
from tests.bench.commands import Commands, Figures
from tests.bench.measure import ROOT
from tests.bench.report import Row, at_least, at_most, describe_machine, in_turn, median, ratio, table_of_rows
from tests.core.numerics.batches import BatchedCells, scanpy
from tests.spread_reads import spread_reads

REAL = ROOT.parent / "shared" / "data"
DATASETS = ("mixology", "mixology-thin")
SEEDS, COMPONENTS, GENES = range(10), 50, 2_000
# scanpy's own seurat_v3 by batch fails on cells as shallow as mixology-thin.
CHOICES = (("seurat", "none"), ("seurat", "plate"), ("seurat_v3", "none"))
SHARDS, SPREAD = 8, 20_000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3, help="times that each command is measured; medians are shown")
    options.add_argument("--cells", type=int, default=200_000, help="simulated cells that the costs are of")
    options.add_argument("--output", type=Path, default=Path("bench-atlas.json"), help="where the measurements go")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["PREFECT_HOME"] = f"{scratch}/server"
        measured = measure(Path(scratch), chosen.rounds, chosen.cells)
    chosen.output.write_text(json.dumps(measured, indent=1))
    print(f"{describe_machine()}; medians of {chosen.rounds}\n")
    print("\n".join(table_of_rows(promises(measured))))


def measure(scratch: Path, rounds: int, cells: int) -> dict[str, Any]:
    # Only now: Prefect reads its home when it is imported.
    from flows import server  # noqa: PLC0415

    dataset = write_dataset(scratch / "dataset", cells, 42)
    with server.chosen() as running:
        running.check()
        commands = Commands(dataset, cells, scratch)
        recipes = {name: partial(commands.flow, running.url, recipe=name) for name in ("plain", "atlas")}
        return {
            "cells": cells,
            "real": {name: _real(name, scratch, running.url) for name in DATASETS if (REAL / name).is_dir()},
            "cost": in_turn(recipes, rounds),
            "spread": _spread(dataset, scratch),
        }


def _real(name: str, scratch: Path, server: str) -> dict[str, Any]:
    commands = Commands(REAL / name, "all", scratch)
    runs = [_agreement(commands, server, seed) for seed in SEEDS]
    cells = BatchedCells.read(REAL / name)
    return {
        "agreement": runs,
        "genes_that_differ": {f"{of}, {batch}": _genes(cells, commands, server, of, batch) for of, batch in CHOICES},
        "pca": _pca(cells, commands, server),
    }


def _agreement(commands: Commands, server: str, seed: int) -> dict[str, float]:
    """The recipe as it stands, but for the map, which changes no cluster."""
    commands.flow(server, recipe="atlas", clusters=5, seed=seed, layout="none")
    comparisons = commands.record["scores"]["comparisons"]
    return {one["column"]: one["adjusted_rand_index"] for one in comparisons if one["clustering"] == "cluster"}


def _genes(cells: BatchedCells, commands: Commands, server: str, flavour: str, batch: str) -> dict[str, int]:
    """Genes that one of the two chooses and the other does not, and those of them that tie with none."""
    commands.flow(server, genes=flavour, batch=batch, n_top_genes=GENES)
    ours = pl.read_csv(commands.output / "genes.csv")["highly_variable"].to_numpy()
    with scanpy() as sc:
        annotated = cells.scanpys(cells.raw if flavour == "seurat_v3" else cells.normalized)
        key = None if batch == "none" else "batch"
        sc.pp.highly_variable_genes(annotated, n_top_genes=GENES, flavor=flavour, batch_key=key)
    theirs = annotated.var["highly_variable"].to_numpy()
    by = annotated.var["variances_norm" if flavour == "seurat_v3" else "dispersions_norm"].to_numpy()
    times = Counter(np.round(by, 9).tolist())
    differing = np.flatnonzero(ours != theirs)
    return {"all": len(differing), "untied": sum(times[round(float(by[gene]), 9)] == 1 for gene in differing)}


def _pca(cells: BatchedCells, commands: Commands, server: str) -> dict[str, float]:
    """Against scanpy's PCA of the same genes, scaled by scanpy."""
    commands.flow(server, genes="seurat", batch="plate", method="pca", scale_max=10, n_top_genes=GENES)
    chosen = pl.read_csv(commands.output / "genes.csv")["highly_variable"].to_numpy()
    with scanpy() as sc:
        annotated = cells.scanpys(cells.normalized)[:, chosen].copy()
        sc.pp.scale(annotated, max_value=10)
        annotated.X = annotated.X.astype(np.float64)
        sc.pp.pca(annotated, n_comps=COMPONENTS, svd_solver="arpack")
    components = pl.read_csv(commands.output / "components.csv")
    ours = pl.read_parquet(commands.output / "embeddings").select("^pc[0-9]+$").to_numpy()
    theirs = annotated.obsm["X_pca"]
    exact = np.sqrt(annotated.uns["pca"]["variance"] * (len(ours) - 1))
    apart = np.minimum(np.diff(exact, prepend=np.inf), np.diff(exact, append=0.0)) / exact
    correlations = [abs(np.corrcoef(ours[:, at], theirs[:, at])[0, 1]) for at in range(COMPONENTS)]
    return {
        "worst_error": float(np.abs(components["singular_value"].to_numpy() / exact - 1).max()),
        "worst_correlation": float(min(np.array(correlations)[np.abs(apart) > 0.01], default=1.0)),
    }


def _spread(dataset: Path, scratch: Path) -> dict[str, Any]:
    """A tenth of the cells, from shards as large as a plate's part of them."""
    screen = scratch / "screen"
    (screen / "data").mkdir(parents=True)
    for name in ("README.md", "metadata"):
        (screen / name).symlink_to(dataset / name)
    shards = sorted((dataset / "data").iterdir())
    for at, some in enumerate(np.array_split(np.array(shards, object), SHARDS)):
        joined = pa.concat_tables([pq.read_table(path) for path in some])
        pq.write_table(joined, screen / "data" / f"train-{at:05}-of-{SHARDS:05}.parquet", row_group_size=1_000)
    whole = Counter(plate for path in shards for plate in pq.read_table(path, columns=["plate"])["plate"].to_pylist())
    cells = sum(whole.values())
    settings = Settings(
        dataset=str(screen), store=str(scratch / "spread"), samples=min(SPREAD, cells // 10), sampling="spread"
    )
    found = spread_reads(screen, settings)
    chosen = Counter(found.cells["plate"].to_pylist())
    off = [abs(chosen[plate] / found.cells.num_rows / (number / cells) - 1) for plate, number in whole.items()]
    return {"read": found.read, "used": found.used, "worst_share": max(off)}


def promises(measured: Figures) -> list[Row]:
    """What the recipe promises, where this run measured it."""
    rows = [row for name, of in measured["real"].items() for row in _real_rows(name, of)]
    missing = [Row(name, "real cells are not at hand", "-", kept=False) for name in DATASETS if not measured["real"]]
    cost, spread = measured["cost"], measured["spread"]
    at = f"{measured['cells']:,} simulated cells"
    return [
        *rows,
        *missing,
        at_most(f"time of atlas beside plain, {at}", ratio(cost["atlas"], cost["plain"]), "times", 1.3),
        at_most(f"peak memory of the process tree, {at}", median(cost["atlas"], "peak_bytes") / 1e9, "GB", 1.5),
        at_most("bytes read by a spread sample beside its row groups'", spread["read"] / spread["used"], "times", 1.3),
        at_most("plate shares of a spread sample, worst", 100 * spread["worst_share"], "% off", 2),
    ]


def _real_rows(name: str, of: Figures) -> list[Row]:
    lines, plates = ([run[column] for run in of["agreement"]] for column in ("cell_line_id", "plate"))
    return [
        at_least(f"{name}: adjusted Rand index with the lines, worst of {len(lines)} seeds", min(lines), 0.98, ""),
        at_most(f"{name}: the same with the plates", max(plates), "", 0.12),
        *(
            Row(
                f"{name}: genes of {choice} that are not scanpy's",
                f"{differ['all']}, all but {differ['untied']} ties",
                "0 but for ties",
                differ["untied"] == 0,
            )
            for choice, differ in of["genes_that_differ"].items()
        ),
        Row(
            f"{name}: singular values against scanpy's PCA, worst error",
            f"{of['pca']['worst_error']:.1e}",
            "at most 1e-4",
            of["pca"]["worst_error"] <= 1e-4,
        ),
        Row(
            f"{name}: correlation of a component that is apart by 1 %, worst",
            f"{of['pca']['worst_correlation']:.6f}",
            "at least 0.999",
            of["pca"]["worst_correlation"] >= 0.999,
        ),
    ]


if __name__ == "__main__":
    main()
