"""RecordIO through mxnet, behind the interface of `RecordReader`: what the tests compare with.

mxnet 1.9.1 is the last release. It needs numpy < 2 and names that numpy removed in 1.24.
"""

from pathlib import Path
from types import ModuleType

import numpy as np

from facelib.errors import UserError
from facelib.formats.record_index import rec_file


def import_mxnet() -> ModuleType:
    """Import mxnet after putting back `numpy.bool`, `int`, `float` and `object`.

    Raises:
        UserError: mxnet is not installed or does not import here.
    """
    for name, kind in (("bool", bool), ("int", int), ("float", float), ("object", object)):
        if name not in np.__dict__:
            setattr(np, name, kind)
    try:
        import mxnet
    except (ImportError, OSError, AttributeError) as error:
        raise UserError(
            f"mxnet does not import ({error}); it has wheels for Linux x86-64 only and needs"
            " numpy < 2: pip install mxnet==1.9.1"
        ) from None
    return mxnet


class MxnetReader:
    """Reads the records of a `.rec` file through `mxnet.recordio.MXIndexedRecordIO`.

    Args:
        rec_path: the `.rec` file, or a folder that holds `train.rec`.
        idx_path: the index, by default beside the records.

    Attributes:
        keys: int64 (N,), ascending.
    """

    def __init__(self, rec_path: Path, idx_path: Path | None = None):
        self.rec_path = rec_file(rec_path)
        self.idx_path = Path(idx_path) if idx_path else self.rec_path.with_suffix(".idx")
        recordio = import_mxnet().recordio
        self._records = recordio.MXIndexedRecordIO(str(self.idx_path), str(self.rec_path), "r")
        self.keys = np.array(sorted(self._records.keys), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, key: int) -> bytes:
        """Return the record (header, labels and payload) with this key."""
        return self._records.read_idx(int(key))
