"""The page of the local store: sums, lists, search, costs, live in the browser.

store.selection (which events, from a URL) ──> store.queries (sums, lists, one event) ──> the page, `stats`
                                                 ├── store.search (the index for searching)
                                                 └── store.prices (what calls cost)
"""
