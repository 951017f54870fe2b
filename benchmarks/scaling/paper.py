"""x"""


def paper_tables() -> list[str]:
    return []
