import pytest

from tasks.core.model.find_markers import is_housekeeping


@pytest.mark.parametrize(
    ("symbols", "expected"),
    [
        (["MT-CO1", "mt-nd1", "RPL10A", "RPLP0", "RPS4X", "RPSA", "RPS27L"], True),
        (["MT2A", "RPS6KA1", "RPA1", "RPN1", "RPRM", "AKR1C1", "", None], False),
    ],
)
def test_genes_of_ribosomes_and_mitochondria_are_told_by_their_symbols(symbols: list[str], expected: bool) -> None:
    assert {is_housekeeping(symbol) for symbol in symbols} == {expected}
