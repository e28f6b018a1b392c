"""Strategies of Hypothesis that several tests draw from."""

from __future__ import annotations

from hypothesis import strategies as st


def cut(draw: st.DrawFn, whole: str) -> list[str]:
    """`whole` in pieces, empty ones too."""
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=3)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
