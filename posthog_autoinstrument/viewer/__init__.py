"""What the local store holds, for people: sums, lists, search, costs. The page and the terminal commands read it here.

selection (which events, from a URL) ──> queries (sums, lists, one event) ──> page, `stats`, `events`
                                           ├── words  (the index for searching)
                                           └── prices (what calls cost)
"""
