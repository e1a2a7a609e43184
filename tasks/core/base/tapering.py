"""Work in shares for many workers."""


def tapered(items: int, size: int) -> list[int]:
    """Cut items into shares of so many, the last eighth into shares a quarter as large, the last 32nd a sixteenth.

    Whoever comes last would have all others wait for half a share on average, and a share may be a tenth of all that a
    worker does. Smaller ones make up for what larger ones leave uneven; they are as few as will do, for each is a call.

    Returns:
        The size of each share; at least one share where there are items.
    """
    shares: list[int] = []
    left = items
    for share, until in ((size, items // 8), (size // 4, items // 32), (size // 16, 0)):
        of = max(share, 1)
        number = (left - until) // of
        shares += [of] * number
        left -= number * of
    return shares + ([left] if left else [])
