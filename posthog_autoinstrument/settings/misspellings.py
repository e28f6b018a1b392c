"""Variables of the environment that are none of our settings, and which setting each was probably meant to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

PREFIX = "POSTHOG_"
OWN_PREFIX = "POSTHOG_AUTOINSTRUMENT_"

OTHER_NAMES: Mapping[str, str] = {
    "TOKEN": "token",
    "KEY": "token",
    "API_TOKEN": "token",
    "PROJECT_KEY": "token",
    "PROJECT_API_TOKEN": "token",
    "PUBLIC_KEY": "token",
    "WRITE_KEY": "token",
    "API_HOST": "host",
    "API_ENDPOINT": "host",
    "API_BASE": "host",
    "API_BASE_URL": "host",
    "BASE_URL": "host",
    "ENDPOINT": "host",
    "HOST_URL": "host",
    "INGESTION_HOST": "host",
    "INSTANCE": "host",
    "REGION": "host",
    "SERVER": "host",
    "URL": "host",
    "PRIVACY": "privacy_mode",
    "PRIVATE": "privacy_mode",
    "USER_ID": "distinct_id",
    "DISABLED": "disabled",
    "OPT_OUT": "disabled",
}
"""Names that other products use for a setting, without the prefix -> its field."""

OF_OTHERS = frozenset(("DEBUG", "DB", "USER", "LOCAL", "PERSONAL_API_KEY", "PROJECT_ID"))
"""Names after POSTHOG_ that other products and programs use for something else; ours of that name have our prefix."""


def unknown(environ: Mapping[str, str], known: Mapping[str, str]) -> Iterator[tuple[str, str | None, bool]]:
    """Each variable that is set, begins with POSTHOG_ in whatever case and is none of `known` (variable -> field), with
    the field that was probably meant, and whether that is so by its spelling (else by what others call it). The field
    of a known variable that is no setting is "".

    A variable with our prefix comes without a field where none is near; one without it is then left out.
    """
    for name in sorted(environ):
        upper = name.upper()
        if name in known or not upper.startswith(PREFIX) or not environ.get(name, "").strip():
            continue
        rest = upper[len(PREFIX) :]
        own = "INSTR" in rest  # POSTHOG_INSTRUMENT_, POSTHOG_AUTO_INSTRUMENT_
        if own:
            rest = rest.partition("INSTR")[2].partition("_")[2]
        if not own and rest in OF_OTHERS:
            continue
        field = known.get(upper)
        if field is None and (own or rest not in OTHER_NAMES):
            field = _near(upper, rest, known)
        if field is None and "PRIVACY" in rest:
            field = "privacy_mode"
        by_spelling = field is not None
        field = field or OTHER_NAMES.get(rest)
        if own or field is not None:
            yield name, field, by_spelling


def _near(name: str, rest: str, known: Mapping[str, str]) -> str | None:
    """The field whose variable differs least from a name, with or without the prefix, if that is little."""
    size = len(rest.replace("_", ""))
    limit = 0 if size <= 3 else 1 if size <= 6 else 2
    found = []
    for variable, field in known.items():
        of_ours = variable.removeprefix(OWN_PREFIX).removeprefix(PREFIX)
        for one, other in ((rest, of_ours), (name, variable if variable.startswith(OWN_PREFIX) else "")):
            one, other = one.replace("_", ""), other.replace("_", "")
            if field and abs(len(one) - len(other)) <= limit:
                edits = distance(one, other)
                if edits <= limit:
                    found.append((edits, field))
    return min(found)[1] if found else None


def distance(one: str, other: str) -> int:
    """The edit distance of two texts: letters inserted, deleted, replaced, or exchanged with their neighbour (optimal
    string alignment)."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, theirs in enumerate(other, 1):
            least = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != theirs))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == theirs:
                least = min(least, before[j - 2] + 1)
            row.append(least)
        before, last = last, row
    return last[-1]
