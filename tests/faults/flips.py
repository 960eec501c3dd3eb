"""Checkpoints in which bits have flipped: each must be refused.

    python -m tests.faults.flips [--checkpoints 200] [--seed 0]

Each checkpoint has weights, optimiser and random state of its own and is written as a training
writes it; one to three bits flip anywhere in the file.
"""

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path


def campaign(checkpoints: int, seed: int) -> dict:
    """How many checkpoints were refused, and how many were taken."""
    import torch

    from facelib.errors import BadData
    from facelib.training.checkpoint import load_checkpoint, save_checkpoint
    from tests.faults.cases_weights import tiny_trainer

    outcomes: Counter = Counter()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "checkpoints" / "last.pt"
        for i in range(checkpoints):
            rng = random.Random(f"{seed} {i}")
            torch.manual_seed(rng.getrandbits(32))
            save_checkpoint(tiny_trainer(Path(name)), path.name)
            load_checkpoint(path)
            content = bytearray(path.read_bytes())
            for place in rng.sample(range(len(content)), rng.choice((1, 1, 2, 3))):
                content[place] ^= 1 << rng.randrange(8)
            path.write_bytes(content)
            try:
                load_checkpoint(path)
                outcomes["taken"] += 1
            except BadData:
                outcomes["refused"] += 1
    return {"checkpoints": checkpoints, "seed": seed, "outcomes": dict(outcomes)}


def main() -> int:
    """Print the counts; exit code 1 where one was taken."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoints", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = campaign(options.checkpoints, options.seed)
    sys.stdout.write(json.dumps(found) + "\n")
    return 1 if "taken" in found["outcomes"] else 0


if __name__ == "__main__":
    sys.exit(main())
