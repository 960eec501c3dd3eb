"""What to render: the values of a data set, their limits and their digest. Light to import."""

from dataclasses import asdict, dataclass

from facelib.digests import digest_values
from facelib.errors import UserError
from facelib.rendered.pairs import FOLDS

LOOK_VERSION = 1  # part of the digest: raise it when the renderer changes what it draws
# Pictures beside those of a head with one trait changed (`facelib/rendered/traits.py`).
ITSELF, AGAIN = "itself", "same person, other scene"
STRANGER = "other person, same scene"


@dataclass(frozen=True)
class RenderedSpec:
    """What to render. Difficulty grows with `nuisance` and falls with `spread`.

    Args:
        identities, images: training people and pictures of each.
        test_identities: people of the benchmarks, none of them in training; 17 pictures each.
        size: pixels on a side.
        spread: how different people are (1 = as people are, 0 = one average head).
        nuisance: how much pictures of a person differ beyond yaw (0 = studio, 1 = in the wild).
        seed: of everything.
        planted: so many of the test people are in training too (`facelib/rendered/planted.py`).
    """

    identities: int = 250
    images: int = 24
    test_identities: int = 200
    size: int = 64
    spread: float = 1.0
    nuisance: float = 1.0
    seed: int = 0
    planted: int = 0

    def __post_init__(self):
        limits = {
            "identities": (2, 1_000_000),
            "images": (2, 10_000),
            "test_identities": (2 * FOLDS, 100_000),
            "size": (24, 512),
            "spread": (0.0, 2.0),
            "nuisance": (0.0, 2.0),
            "seed": (0, 2**31 - 1),
            "planted": (0, self.test_identities),
        }
        for name, (low, high) in limits.items():
            value, whole = getattr(self, name), name not in ("spread", "nuisance")
            kinds = int if whole else (int, float)
            good = isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high
            if not good:
                kind = "a whole number" if whole else "a number"
                raise UserError(
                    f"rendered faces: {name}={value!r} is not allowed, it must be {kind} from "
                    f"{low} to {high}; next: python -m facelib prepare rendered --help"
                )

    def settings(self) -> dict:
        """What spec.json holds; `planted` only where there are any, it joined later."""
        values = {"look": LOOK_VERSION, **asdict(self)}
        return values if self.planted else {k: v for k, v in values.items() if k != "planted"}

    def digest(self) -> str:
        """First 8 hex digits of a hash of all values and of the renderer's version."""
        return digest_values(self.settings(), digits=8)
