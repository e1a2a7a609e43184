"""The script one would write by hand for this job: rows as dicts, one matrix in memory, sklearn for the rest.

python -m tests.bench.plain_script DATASET CELLS COMPONENTS CLUSTERS OUTPUT
"""

import csv
import sys
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from datasets import load_dataset
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD


def main(dataset: str, cells: int, components: int, clusters: int, output: Path) -> None:
    genes = load_dataset(dataset, "gene_metadata", split="train")
    column_of_token = {token: column for column, token in enumerate(genes["token_id"])}
    metadata: list[dict[str, object]] = []
    data: list[float] = []
    indices: list[int] = []
    indptr = [0]
    for row in load_dataset(dataset, "expression_data", split="train", streaming=True).take(cells):
        for token, value in zip(row.pop("genes")[1:], row.pop("expressions")[1:], strict=True):
            indices.append(column_of_token[token])
            data.append(value)
        indptr.append(len(indices))
        metadata.append(row)
    counts = sp.csr_matrix((np.array(data, np.float32), indices, indptr), shape=(len(metadata), len(column_of_token)))
    totals = np.asarray(counts.sum(axis=1)).ravel()
    normalized = (sp.diags(1e6 / np.maximum(totals, 1)) @ counts).astype(np.float32).log1p()
    svd = TruncatedSVD(components, random_state=42)
    embedding = svd.fit_transform(normalized)
    labels = KMeans(clusters, n_init=10, random_state=42).fit_predict(embedding)
    write(output, metadata, embedding, labels, svd.explained_variance_ratio_)


def write(
    output: Path, metadata: list[dict[str, object]], embedding: np.ndarray, labels: np.ndarray, ratios: np.ndarray
) -> None:
    output.mkdir(parents=True, exist_ok=True)
    names = [f"pc{number}" for number in range(1, embedding.shape[1] + 1)]
    with (output / "embeddings.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*metadata[0], *names, "cluster"])
        for row, coordinates, label in zip(metadata, embedding, labels, strict=True):
            writer.writerow([*row.values(), *coordinates, label])
    with (output / "pca_variance.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["pc", "explained_variance_ratio"], *zip(names, ratios, strict=True)])


if __name__ == "__main__":
    dataset, cells, components, clusters, output = sys.argv[1:]
    main(dataset, int(cells), int(components), int(clusters), Path(output))
