"""Are two names written differently the same? A rule for matches, and a list for human eyes.

A match: the same words after (in this order)
  1. the signs `_ - . , ; /` and spaces part words, apostrophes and brackets go,
  2. accents go (é → e), and letters that do not decompose are spelled out (ø → o, ß → ss, æ → ae),
  3. case is ignored,
  4. the order of the words is ignored: `Müller, Ann`, `Ann_Muller` and `ANN MÜLLER` are one.
Nothing is guessed: initials, middle names and suffixes (Jr) count as words.

A candidate, listed and never counted as a match, has exactly one of these differences:
  spelling   all words but one are the same, and that one, of four letters or more in both names, is
             one insertion, deletion, substitution or swap of neighbours away
  part       first and last word are the same, and the words of one name are all in the other
             (middle names; an initial stands for any word with that letter)
Names of one word can match, but are no candidates. Both searches go through an index, so 85,742
names against 500 take a second.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence

import pandas as pd

SPELLED_OUT = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d", "ß": "ss"}
)
SHORTEST = 4  # letters of a word that may be misspelt: Kim and Tim are two people
KINDS = ("match", "spelling", "part")


def words_of(name: str) -> tuple[str, ...]:
    """Words of a name in spoken order: accents, case and punctuation gone, `Last, First` turned."""
    before, comma, after = name.partition(",")
    turned = f"{after} {before}" if comma else name
    text = unicodedata.normalize("NFKD", turned.casefold().translate(SPELLED_OUT))
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = re.sub(r"['’`´()\[\]\"]", "", text)
    return tuple(re.sub(r"[\W_]+", " ", text).split())


def one_edit(a: str, b: str) -> bool:
    """Whether one insertion, deletion, substitution or swap of neighbours makes a into b."""
    if a == b or abs(len(a) - len(b)) > 1:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    rest_a, rest_b = a[start:], b[start:]
    swapped = len(rest_a) > 1 and rest_a[1::-1] + rest_a[2:] == rest_b
    return swapped or rest_b == rest_a[1:] or rest_a == rest_b[1:] or rest_a[1:] == rest_b[1:]


def match_names(train: Sequence[str], bench: Sequence[str]) -> pd.DataFrame:
    """All matches and candidates between two lists of names.

    Returns:
        Frame with train, bench (positions in the lists), kind (`KINDS`), train_name, bench_name;
        in the order of `bench`, matches first. A pair occurs once, under its strictest kind.
    """
    exact, without_one, ends = defaultdict(list), defaultdict(list), defaultdict(list)
    words = [words_of(name) for name in train]
    for i, own in enumerate(words):
        key = tuple(sorted(own))
        exact[key].append(i)
        for rest, word in _without_one(key):
            without_one[rest].append((word, i))
        if len(own) > 1:
            ends[frozenset((own[0], own[-1]))].append(i)
    rows = []
    for j, name in enumerate(bench):
        own = words_of(name)
        key = tuple(sorted(own))
        found = {i: "match" for i in exact.get(key, ())}
        for rest, word in _without_one(key):
            for other, i in without_one.get(rest, ()):
                if one_edit(word, other):
                    found.setdefault(i, "spelling")
        if len(own) > 1:
            for i in ends.get(frozenset((own[0], own[-1])), ()):
                if _is_part(own, words[i]):
                    found.setdefault(i, "part")
        order = sorted(found, key=lambda i: (KINDS.index(found[i]), i))
        rows += [(i, j, found[i], train[i], name) for i in order]
    return pd.DataFrame(rows, columns=["train", "bench", "kind", "train_name", "bench_name"])


def _without_one(key: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """(the other words, the word left out) for each long enough word; none for a single word."""
    for place, word in enumerate(key):
        if len(key) > 1 and len(word) >= SHORTEST:
            yield key[:place] + key[place + 1 :], word


def _is_part(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Whether each middle word of the shorter name stands in the longer one, or its initial."""
    short, long = sorted((list(a[1:-1]), list(b[1:-1])), key=len)
    for word in short:
        fits = [w for w in long if w == word or (1 in (len(w), len(word)) and w[0] == word[0])]
        if not fits:
            return False
        long.remove(fits[0])
    return True
