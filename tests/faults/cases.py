"""Every reader of a file that a person or a run wrote: the one list (`build`).

A case is a small good file and what reads it. A mutated one must be read, or refused by one line.
`tests/faults/test_list.py` finds readers in facelib that no case reaches.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.faults.mutate import Change, in_json, packed, unpacked


@dataclass(frozen=True)
class Case:
    """One kind of file: its good bytes, where it lies, what reads a path of it.

    `inside` changes what the bytes encode (members of an archive, values of JSON); `share` is how
    often the case is drawn: small for slow readers.
    """

    name: str
    file: str
    content: bytes
    read: Callable[[Path], object]
    inside: Change | None = None
    share: float = 1


def build(folder: Path) -> list[Case]:
    """All cases; the good files beside which a mutated one is read are written into `folder`.

    Their bytes are the same each time: no dates, no random weights.
    """
    import torch

    from tests.faults import cases_data, cases_runs, cases_weights

    makers = (cases_data.records, cases_data.benchmarks, cases_data.arrays, cases_data.pictures,
              _texts, cases_data.lists, cases_runs.runs, cases_runs.results, cases_runs.notebooks,
              cases_weights.checkpoints, cases_weights.adapters, cases_weights.foundations,
              cases_weights.clip_pickle, cases_weights.links)  # fmt: skip
    torch.manual_seed(0)
    cases = [case for make in makers for case in make(folder)]
    for i, case in enumerate(cases):
        if case.file.endswith(".npz"):
            cases[i] = replace(case, content=packed(unpacked(case.content)))
    for case in cases:
        path = folder / case.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(case.content)
    return cases


def _texts(folder: Path) -> Iterator[Case]:
    from facelib.metrics.features import HEADER
    from tests.faults.texts import TEXTS

    (folder / "texts").mkdir()
    (folder / "texts" / "a.bin").write_bytes(HEADER.pack(1, 1, 4, 5) + bytes(4))
    for name, (good, read) in TEXTS.items():
        inside = in_json if good.startswith("{") else None
        yield Case(f"text: {name}", f"texts/{name}.txt", good.encode(), read, inside)
