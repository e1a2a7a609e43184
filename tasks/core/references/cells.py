"""The cells that the stages hand to each other: small immutable values that say where data lie, never the data."""

from typing import Any

from pydantic import Field

from tasks.core.storage.store import ObjectRef, Reference


class Vocabulary(Reference):
    """Genes of a dataset: an object with `gene_symbol`, `ensembl_id` and `token_id`, a row a matrix column."""

    key: str
    genes: int
    table: ObjectRef


class Lookup(Reference):
    """A table of the dataset's own that is joined to the cells' metadata.

    Attributes:
        on: the cells' column, and the table's, that it is found by.
        adds: columns that it adds.
    """

    on: str
    adds: tuple[str, ...]
    table: ObjectRef


class Partition(Reference):
    """Consecutive rows of one shard, or some of them: the unit of work, retry and reuse.

    Attributes:
        dataset: id on the Hub, absolute path of a folder, or URL on S3.
        revision: commit on the Hub; None elsewhere.
        metadata: the cells' columns beside their counts, with the types that they get.
        shard_name: path of the shard in the dataset.
        fingerprint: changes when the shard does.
        start: first row, in the shard.
        stop: row after the last.
        rows: object that lists the rows chosen from these; None for all.
        lookups: tables to join to the cells' metadata.
    """

    dataset: str
    revision: str | None
    metadata: dict[str, str]
    shard_name: str
    fingerprint: str
    start: int
    stop: int
    rows: ObjectRef | None = None
    lookups: tuple[Lookup, ...] = ()

    @property
    def cells(self) -> int:
        """Number of rows to be read."""
        return self.stop - self.start if self.rows is None else self.rows.rows

    @property
    def made_of(self) -> dict[str, Any]:
        """All that decides which cells these are and what is known of them."""
        of_source = self.model_dump(include={"metadata", "shard_name", "fingerprint", "start", "stop"})
        chosen = {} if self.rows is None else {"rows": self.rows.checksum}
        joined = [[lookup.on, *lookup.adds, lookup.table.checksum] for lookup in self.lookups]
        return of_source | chosen | ({"joined": joined} if joined else {})

    @property
    def origin(self) -> str:
        """Shard and first row, as people are told of the partition."""
        return f"{self.shard_name} from row {self.start:,}"

    @property
    def is_empty(self) -> bool:
        """Whether there are no rows to be read."""
        return not self.cells


class Skipped(Reference):
    """Rows of a shard that were left out because they are bad.

    Attributes:
        row: the first, in the shard.
        rows: how many; of a shard that cannot be opened, as many as others have.
    """

    shard: str
    row: int
    rows: int
    reason: str


class Plan(Reference):
    """What a run will read.

    Attributes:
        revision: commit on the Hub, or a digest of the folder's shards.
        columns: the cells' metadata columns.
        left_out: columns that are not in the tables of cells, with the reason.
        converted: columns that are not written as the dataset has them, with what to know of them.
        exhausted: whether the dataset ended before as many cells as asked for, or no more match.
        skipped: shards that cannot be opened.
        notes: what a person should know of the tables that are joined.
    """

    dataset: str
    revision: str
    vocabulary: Vocabulary
    columns: tuple[str, ...]
    left_out: dict[str, str]
    converted: dict[str, str]
    partitions: tuple[Partition, ...]
    cells: int
    exhausted: bool
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


class InBlocks(Reference):
    """A partition's matrix, in blocks.

    Attributes:
        origin: where the cells come from, for people.
    """

    key: str
    origin: str
    cells: int
    nonzeros: int
    blocks: tuple[ObjectRef, ...]

    @property
    def is_empty(self) -> bool:
        """Whether it has no cells: none of those read was good."""
        return not self.cells


class Tokens(Reference):
    """A partition's cells as the source has them, in blocks of tokens and counts, until the matrix is built."""

    blocks: tuple[ObjectRef, ...]


class Cells(Reference):
    """A partition as it was streamed: its cells' metadata, and what was left out.

    Attributes:
        origin: where the cells come from, for people.
        landed: by which their tokens are found.
        unmatched: cells that a table which was to be joined has nothing of, by the column that it is found by.
    """

    key: str
    origin: str
    cells: int
    nonzeros: int
    landed: str
    metadata: ObjectRef
    skipped: tuple[Skipped, ...] = ()
    unmatched: dict[str, int] = Field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether it has no cells: none of those read was good."""
        return not self.cells


class GeneOrder(Reference):
    """Columns of a matrix: genes by popularity.

    Attributes:
        genes: columns.
        ranks: object with the column of each gene of the vocabulary, or -1 where the matrix has none.
    """

    key: str
    genes: int
    ranks: ObjectRef


class Counts(InBlocks):
    """A partition's counts matrix, packed.

    Attributes:
        order: of its columns.
        empty_cells: how many cells of it have no counts.
        repeated_pairs: pairs of a cell and a gene that had been given more than once.
    """

    order: GeneOrder

    empty_cells: int
    repeated_pairs: int


class Counted(Reference):
    """A partition's cells with their counts."""

    cells: Cells
    counts: Counts

    @property
    def origin(self) -> str:
        """Where the cells come from."""
        return self.cells.origin

    @property
    def is_empty(self) -> bool:
        """Whether it has no cells."""
        return self.cells.is_empty


class Checked(Counted):
    """Those cells of a partition that are of good quality.

    Attributes:
        quality: object with the genes, counts and mitochondrial share of all its cells, and which of them were kept.
        removed: cells beyond each bound, by the name of its setting; one may be beyond several.
    """

    quality: ObjectRef
    removed: dict[str, int]


class Normalization(Reference):
    """What makes normalized values of counts: two are comparable if all of it is the same.

    Attributes:
        target_sum: of each cell's counts.
        log1p: whether the logarithm of one more was taken.
        version: of the code.
    """

    target_sum: float
    log1p: bool
    version: int

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self)


class Preparation(Reference):
    """How values are made of normalized ones.

    Attributes:
        order: columns of the counts.
        chosen: columns of the genes that are kept.
        statistics: object with the mean and deviation of each gene of the vocabulary.
        scale_max: deviations at which scaled values are clipped; 0 where they are not scaled.
    """

    order: GeneOrder
    chosen: GeneOrder
    statistics: ObjectRef
    scale_max: float


class Normalized(InBlocks):
    """A partition's normalized matrix, whose values are made of its counts as these are read.

    Attributes:
        blocks: of the counts.
        moments: object with those of the genes' values.
        preparation: what is done to the values; None where they are left as they are.
    """

    moments: ObjectRef
    preparation: Preparation | None = None
