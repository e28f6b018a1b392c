"""Full-text search: SQLite FTS5, indexed by the process that reads, not by those that write events.

One index (the table `words_N`) for each block of `WORDS_BLOCK` event numbers. It is dropped as a whole when one of its
events is deleted: dropping tables needs no FTS5, costs the writer nothing for each word and leaves nothing behind. A
deleted entry would stay in the pages of its index (FTS5's secure-delete came with SQLite 3.42, and tokenizes each text
again). The indexes are contentless: the texts are in the events only.

Without FTS5, and for scripts that write no spaces between words, the events themselves are scanned.
"""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Iterable
from typing import Any

from ..core import fastjson
from .columns import words_to_search
from .database import Store
from .schema import WORDS_BLOCK

_CHUNK = 100
"""Events that one transaction indexes: other processes wait that long for the file, about 0.1 s at most."""
_MAX_WORDS = 32
_MAX_BLOCKS = 400
"""SQLite takes 500 SELECTs in one query. That many blocks are 1.6 million events."""


def has_fts5(store: Store) -> bool:
    """Whether this Python's SQLite has full-text search."""
    return ("fts5",) in store.rows("PRAGMA module_list")


def refresh(store: Store, until: float) -> int:
    """Index new events, the newest block first, until `until` (`time.monotonic`); return how many are left."""
    if not has_fts5(store):
        return 0
    last_of = dict(store.rows("SELECT block, last FROM worded"))
    left = 0
    for block, newest in _blocks(store):
        done = last_of.get(block, block * WORDS_BLOCK - 1)
        while done < newest and time.monotonic() < until:
            done = _index_some(store, block, newest)
        left += max(0, newest - done)
    return left


def condition(store: Store, text: str, alias: str = "f") -> tuple[str, dict[str, Any]]:
    """The text of the search box as an SQL condition on the table `facts`, and its parameters.

    Every word must be in the event, as a word or as the beginning of one.
    """
    words = ["".join(char for char in word if unicodedata.category(char)[0] != "C") for word in text.split()]
    words = [word for word in words if word][:_MAX_WORDS]
    if not words:
        return "1", {}
    searchable = [word for word in words if any(map(str.isalnum, word))]
    blocks = [block for (block,) in store.rows(f"SELECT block FROM worded ORDER BY block DESC LIMIT {_MAX_BLOCKS}")]
    if searchable and _has_spaces(searchable) and has_fts5(store):
        if not blocks:
            return "0", {}
        found = " UNION ALL ".join(f"SELECT rowid FROM words_{b} WHERE words_{b} MATCH :words" for b in blocks)
        return f"{alias}.number IN ({found})", {"words": " ".join(map(_quoted, searchable))}
    return _scan(words, alias)


def _quoted(word: str) -> str:
    """The word as a string of FTS5's query language, in which only quotation marks are special; `*`: prefixes too."""
    return '"' + word.replace('"', '""') + '"*'


def _has_spaces(words: Iterable[str]) -> bool:
    """Whether FTS5 can split the words' scripts: not Chinese, Japanese, Thai and others (category Lo)."""
    return not any(unicodedata.category(char) == "Lo" for word in words for char in word)


def _scan(words: list[str], alias: str) -> tuple[str, dict[str, Any]]:
    parts, values = [], {}
    for number, word in enumerate(words):
        raw, escaped = (json.dumps(word, ensure_ascii=ascii)[1:-1] for ascii in (False, True))
        forms = {f"like{number}": raw, **({f"ascii{number}": escaped} if escaped != raw else {})}
        parts.append("(" + " OR ".join(f"e.body LIKE :{name} ESCAPE '!'" for name in forms) + ")")
        values.update({name: f"%{_literal(form)}%" for name, form in forms.items()})
    return f"EXISTS (SELECT 1 FROM events e WHERE e.uuid = {alias}.uuid AND {' AND '.join(parts)})", values


def _literal(text: str) -> str:
    for special in "!%_":
        text = text.replace(special, "!" + special)
    return text


def _blocks(store: Store) -> list[tuple[int, int]]:
    """Each block with events, and the last number in it; the newest block first."""
    found: list[tuple[int, int]] = []
    end = 1 << 62
    while True:
        ((newest,),) = store.rows("SELECT max(number) FROM facts WHERE number < ?", (end,))
        if newest is None:
            return found
        found.append((newest // WORDS_BLOCK, newest))
        end = newest // WORDS_BLOCK * WORDS_BLOCK


def _index_some(store: Store, block: int, newest: int) -> int:
    """Index the next events of a block and return the last number that is indexed."""
    first, deletions = _done(store, block) + 1, store.meta("deletions")
    rows = store.rows(
        "SELECT f.number, e.body FROM facts f JOIN events e ON e.uuid = f.uuid"
        " WHERE f.number BETWEEN ? AND ? ORDER BY f.number LIMIT ?",
        (first, newest, _CHUNK),
    )
    texts = [(number, _words_of(body)) for number, body in rows]
    last = texts[-1][0] if len(texts) == _CHUNK else newest
    with store.change():
        done = _done(store, block)
        # Another reader has indexed them, or events were deleted.
        if done != first - 1 or store.meta("deletions") != deletions:
            return max(done, first - 1)
        if done < block * WORDS_BLOCK:
            # An index that a writer without FTS5 could only empty, not drop.
            store.run(f"DROP TABLE IF EXISTS words_{block}")
            store.run(
                f"CREATE VIRTUAL TABLE words_{block} USING fts5"
                "(text, content='', columnsize=0, tokenize='unicode61 remove_diacritics 2')"
            )
        store.run_many(f"INSERT INTO words_{block} (rowid, text) VALUES (?, ?)", texts)
        if last % WORDS_BLOCK == WORDS_BLOCK - 1:
            store.run(f"INSERT INTO words_{block} (words_{block}) VALUES ('optimize')")
        store.run("INSERT OR REPLACE INTO worded VALUES (?, ?)", (block, last))
    return last


def _done(store: Store, block: int) -> int:
    found = store.rows("SELECT last FROM worded WHERE block = ?", (block,))
    return int(found[0][0]) if found else block * WORDS_BLOCK - 1


def _words_of(body: str) -> str:
    try:
        event = fastjson.loads(body)
    except (ValueError, RecursionError):
        return ""
    text = words_to_search(event) if isinstance(event, dict) else ""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
