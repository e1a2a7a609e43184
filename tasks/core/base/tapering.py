"""Work in shares for many workers."""

# Of the items, how many are in small shares, and of how many times fewer items these are.
_LAST, _SMALLER = 8, 4


def tapered(items: int, size: int) -> list[int]:
    """Cut items into shares of so many; the last eighth of them into shares a quarter as large.

    Whoever comes last would have all others wait for half a share on average, and a share may be a tenth of all that a
    worker does.

    Returns:
        The size of each share; at least one share where there are items.
    """
    large, small = (items - items // _LAST) // size, max(size // _SMALLER, 1)
    left = items - large * size
    return [size] * large + [small] * (left // small) + ([left % small] if left % small else [])
