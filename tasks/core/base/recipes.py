"""Recipes: what is done to the cells, and how, in sets that belong together."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Sampling = Literal["first", "spread"]
GeneChoice = Literal["all", "seurat", "seurat_v3"]
Decomposition = Literal["svd", "pca"]
Correction = Literal["none", "harmony"]
Layout = Literal["none", "umap"]
# Of a setting that names a column, or several: none.
NONE = "none"


class Recipe(BaseModel):
    """How the cells are chosen, reduced and clustered; as it stands, the plain method.

    Each field is described where it is a setting, in `settings`.
    """

    model_config = ConfigDict(frozen=True)

    sampling: Sampling = "first"
    min_genes: int = 0
    min_counts: int = 0
    max_mito: float = 100.0
    min_cells: int = 0
    genes: GeneChoice = "all"
    method: Decomposition = "svd"
    scale_max: float = 0.0
    batch: str = NONE
    correction: Correction = "none"
    leiden: float = 0.0
    markers: int = 0
    compare: str = NONE
    layout: Layout = "none"

    @property
    def batch_column(self) -> str | None:
        """Column of the batches, if any."""
        return None if self.batch == NONE else self.batch

    @property
    def compared(self) -> tuple[str, ...]:
        """Columns that clusters are compared with."""
        return () if self.compare == NONE else tuple(name.strip() for name in self.compare.split(","))

    @property
    def checks_cells(self) -> bool:
        """Whether cells are left out for their quality."""
        return bool(self.min_genes or self.min_counts or self.max_mito < 100)

    @property
    def prepares_genes(self) -> bool:
        """Whether the components are of some of the genes, or of scaled ones."""
        return self.genes != "all" or self.min_cells > 0 or self.scale_max > 0

    @property
    def is_projection(self) -> bool:
        """Whether a cell's place in the embedding is its normalized values times the components, and no more."""
        return self.method == "svd" and not self.prepares_genes and self.correction == NONE


PLAIN = Recipe()
ATLAS = Recipe(
    sampling="spread",
    min_genes=200,
    min_counts=500,
    max_mito=30.0,
    min_cells=5,
    genes="seurat",
    method="pca",
    scale_max=10.0,
    batch="plate",
    correction="harmony",
    leiden=1.0,
    markers=10,
    compare="cell_line_id,plate,drug",
    layout="umap",
)
RECIPES = {"plain": PLAIN, "atlas": ATLAS}
