"""The page of the local store: sums, lists, search, costs, live in the browser.

selection (which events, from a URL) ──> queries (sums, lists, one event) ──> page, `stats`, `events`
                                           ├── words  (the index for searching)
                                           └── prices (what calls cost)
"""
