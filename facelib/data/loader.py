"""Whole batches from worker processes: byte offsets go in, uint8 pixels come out.

A worker holds the path of the `.rec`, which it maps into memory (all workers share its pages), and
nothing of the index: not the keys, not the labels, not the names of 5.8 million images. It gets the
byte offsets of a batch and the number of a slot in shared memory, and decodes into the slot, which
the training process reads in place. The slots are made once: new shared memory for every batch
costs a third of the time of decoding it. Mirroring and scaling to [-1, 1] come later, on the
device, a batch at a time. So Python runs once an image only for "find the record, decode it".
"""

from collections import deque
from collections.abc import Iterator
from itertools import cycle
from multiprocessing import get_all_start_methods

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from facelib.data.datasets import FaceRecords
from facelib.errors import BadData
from facelib.formats.decode import decode
from facelib.formats.recordio import unpack
from facelib.safety.mortal import without_script

START = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"  # Windows
AHEAD = 2  # batches that each worker has under way


class RecordBlocks(Dataset):
    """`blocks[slot, offsets]` decodes into `slots[slot]`; returns the places that are no image.

    Args:
        records: where the file is and how to decode it.
        slots: uint8 (slots, B, size, size, 3), in shared memory if there are workers.
    """

    def __init__(self, records: FaceRecords, slots: torch.Tensor):
        self.file, self.slots = records.reader.file, slots
        self.options = records.size, records.fill_border, records.decode_scale

    def __getitem__(self, wanted: tuple[int, np.ndarray]) -> list[int]:
        slot, offsets = wanted
        images, bad = self.slots[slot].numpy(), []
        for place, offset in enumerate(offsets.tolist()):
            try:
                payload = unpack(self.file.read(offset, "record"))[1]
                images[place] = decode(payload, *self.options)
            except BadData:
                bad.append(place)
        return bad


def load_batches(
    records: FaceRecords, wanted: Iterator[np.ndarray], batch: int, workers: int
) -> Iterator[torch.Tensor]:
    """Yield uint8 (B, 3, size, size) of each array of record indices, in their order.

    A tensor is overwritten once the next one is asked for: copy what must live longer.

    Args:
        records: which images there are; it names a bad one, or finds its neighbour (`skip_bad`).
        wanted: int (B,) record indices of each batch.
        batch: largest B.
        workers: processes; 0 decodes here.

    Raises:
        BadData: a record that is no image, without `skip_bad`.
    """
    # The batches under way, and the one that the caller holds.
    slots = torch.empty(
        (AHEAD * workers + 1, batch, records.size, records.size, 3), dtype=torch.uint8
    )
    under_way: deque[tuple[int, np.ndarray]] = deque()

    def blocks() -> Iterator[tuple[int, np.ndarray]]:
        for slot, rows in zip(cycle(range(len(slots))), wanted):
            under_way.append((slot, rows))
            yield slot, records.offsets(rows)

    loader = DataLoader(
        RecordBlocks(records, slots.share_memory_() if workers else slots),
        batch_size=None,
        sampler=blocks(),
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        multiprocessing_context=START if workers else None,
        generator=torch.Generator(),  # its seed is not drawn from the state that a run resumes
    )
    with without_script():
        bad_places = iter(loader)
    for bad in bad_places:
        slot, rows = under_way.popleft()
        for place in bad:
            slots[slot, place] = torch.from_numpy(records.image(int(rows[place]))[0])
        yield slots[slot, : len(rows)].permute(0, 3, 1, 2)
