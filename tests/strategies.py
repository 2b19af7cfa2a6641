"""Hypothesis strategies: shapes, blocks, halos."""

from hypothesis import strategies as st


def zyx(low: int, high: int) -> st.SearchStrategy[tuple[int, int, int]]:
    """Three integers of low..high."""
    return st.tuples(*[st.integers(low, high)] * 3)
