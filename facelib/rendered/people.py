"""Who is on a rendered picture: a person's traits drawn from a seed, and the head they give.

Traits are what stays from image to image: ancestry mix, sex, age, weight, about 170 signed shape
axes, skin, hair, brows, beard, eyes, and whether glasses are usually worn.
"""

from dataclasses import dataclass, replace

import numpy as np

from facelib.rendered.heads import HeadAssets
from facelib.rendered.styles import BEARDS, HAIRSTYLES, MEN, WOMEN, Beard, Hairstyle

OPPOSITES = (
    *(("incr", "decr"), ("up", "down"), ("out", "in"), ("forward", "backward")),
    *(("convex", "concave"), ("uncompress", "compress"), ("l", "r")),
)
ANCESTRIES = ("african", "asian", "caucasian")  # as the head model names its shapes
MACRO = ("ancestry", "male", "age", "weight")  # traits that the shape of the whole head follows
# Standard deviation of a shape axis, by the first word of its name without the side.
AXIS_SPREAD = {
    **{"head": 0.26, "nose": 0.29, "eye": 0.26, "mouth": 0.28, "chin": 0.30, "cheek": 0.32},
    **{"ear": 0.35, "eyebrows": 0.45, "forehead": 0.35, "measure": 0.2, "neck": 0.2, "asym": 0.13},
}
SIDEWAYS = ("nose-trans-out", "mouth-trans-out")  # whole features off the middle: keep it slight

# sRGB skin tones along melanin 0..1 (light to dark).
MELANIN = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SKIN_TONES = np.array(
    [[234, 192, 172], [220, 172, 148], [192, 142, 114], [148, 104, 80], [106, 74, 57], [72, 50, 41]]
)
# sRGB hair colours: black, dark brown, brown, light brown, blond, red, grey.
HAIR_COLOURS = np.array(
    [
        *([24, 20, 19], [48, 34, 26], [78, 54, 38], [122, 88, 58]),
        *([166, 138, 102], [128, 62, 34], [150, 146, 142]),
    ]
)
HAIR_ODDS_LIGHT = (0.18, 0.26, 0.22, 0.14, 0.13, 0.07, 0.0)
HAIR_ODDS_DARK = (0.80, 0.17, 0.03, 0.0, 0.0, 0.0, 0.0)
# sRGB irises: dark brown, brown, hazel, blue, grey, green.
IRISES = np.array(
    [[52, 30, 18], [88, 54, 30], [112, 86, 46], [86, 120, 156], [112, 122, 130], [92, 112, 74]]
)
IRIS_ODDS_LIGHT = (0.2, 0.25, 0.15, 0.2, 0.1, 0.1)
IRIS_ODDS_DARK = (0.75, 0.25, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Person:
    """Traits of one identity. Colours are linear RGB; shapes are in rest units (10 cm)."""

    seed: int
    ancestry: np.ndarray  # (3,) shares of the head shapes `ANCESTRIES`
    male: bool
    age: float  # 0 young adult .. 1 old
    weight: float  # 0 light .. 1 heavy
    positions: np.ndarray  # (V, 3) float32, neutral head
    melanin: float
    skin: np.ndarray  # (3,)
    hair: np.ndarray  # (3,)
    grey: float  # share of grey strands
    iris: np.ndarray  # (3,)
    hairstyle: Hairstyle
    beard: Beard
    glasses: int  # 0 none, else a frame number
    curl: float
    hairline: float  # shift of the front hairline


def linear(srgb) -> np.ndarray:
    """sRGB 0..255 -> linear light 0..1, float32."""
    s = np.asarray(srgb, np.float64) / 255
    return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4).astype(np.float32)


def sample_person(assets: HeadAssets, seed, spread: float = 1.0) -> Person:
    """Draw a person; `seed` is anything `np.random.default_rng` takes; `spread` scales variety.

    With `spread` 0 all heads have the average shape and colour of their sex; styles still differ.
    """
    rng = np.random.default_rng(seed)
    ancestry = rng.dirichlet([0.5] * 3)
    male = bool(rng.random() < 0.5)
    age = float(rng.beta(1.1, 2.6))
    weight = rng.random()
    positions = assets.base + _macro_shape(assets, ancestry, male, age, weight)
    positions += _local_shape(assets, rng, spread)
    melanin = ancestry @ (0.82, 0.30, 0.13) + rng.normal(0, 0.09)
    melanin = float(np.clip(0.35 + (melanin - 0.35) * min(1, spread), 0, 1))
    light = bool(ancestry[2] > 0.45)
    hair = linear(HAIR_COLOURS[rng.choice(7, p=HAIR_ODDS_LIGHT if light else HAIR_ODDS_DARK)])
    grey = float(np.clip((age - 0.45) * 2.2 + rng.normal(0, 0.2), 0, 1)) if age > 0.35 else 0.0
    hair = hair * rng.uniform(0.8, 1.25) * (1 - grey) + linear(HAIR_COLOURS[6]) * grey
    names, odds = MEN if male else WOMEN
    hairstyle = HAIRSTYLES[names[rng.choice(len(names), p=odds)]]
    if ancestry[0] > 0.6 and rng.random() < 0.4:
        hairstyle = HAIRSTYLES["afro"]
    beard = list(BEARDS)[rng.choice(len(BEARDS), p=(0.42, 0.2, 0.08, 0.1, 0.14, 0.06))]
    return Person(
        seed=int(rng.integers(1 << 31)),
        ancestry=ancestry,
        male=male,
        age=age,
        weight=weight,
        positions=positions.astype(np.float32),
        melanin=melanin,
        skin=_skin_colour(rng, melanin, spread),
        hair=hair.astype(np.float32),
        grey=grey,
        iris=linear(IRISES[rng.choice(6, p=IRIS_ODDS_LIGHT if light else IRIS_ODDS_DARK)]),
        hairstyle=hairstyle,
        beard=BEARDS[beard if male else "none"],
        glasses=int(rng.integers(1, 5)) if rng.random() < 0.2 + 0.2 * age else 0,
        curl=float(np.clip(ancestry[0] * 1.3 + rng.normal(0, 0.25), 0, 1)),
        hairline=float(rng.normal(0, 0.05)),
    )


def reshape(assets: HeadAssets, person: Person, **traits) -> Person:
    """The person on the head of other `MACRO` traits; what is told and painted of them stays."""
    before = {name: getattr(person, name) for name in MACRO}
    shift = _macro_shape(assets, **before | traits) - _macro_shape(assets, **before)
    return replace(person, positions=person.positions + shift)


def tan(person: Person, melanin: float) -> Person:
    """The person with the skin tone of another melanin; redness and yellowness stay."""
    skin = person.skin * (_tone(melanin) / _tone(person.melanin))
    return replace(person, melanin=melanin, skin=skin)


def _tone(melanin: float) -> np.ndarray:
    return linear([np.interp(melanin, MELANIN, SKIN_TONES[:, k]) for k in range(3)])


def _skin_colour(rng, melanin: float, spread: float) -> np.ndarray:
    redness, yellowness = rng.normal(0, 0.035 * spread, 2)
    return (_tone(melanin) * (1 + redness, 1 - redness / 2, 1 - redness / 2 - yellowness)).astype(
        np.float32
    )


def _macro_shape(assets, ancestry, male: bool, age: float, weight: float) -> np.ndarray:
    """Phenotype: bilinear between young and old, and between light, average and heavy."""
    shapes = dict(zip(assets.macro_names, assets.macro_shapes))
    sex = "male" if male else "female"
    light, heavy = max(0.0, 1 - 2 * weight), max(0.0, 2 * weight - 1)
    total = np.zeros_like(assets.base)
    for stage, share in (("young", 1 - age), ("old", age)):
        for name, part in zip(ANCESTRIES, ancestry):
            total += np.float32(share * part) * shapes[f"{name}-{sex}-{stage}"]
        build = f"universal-{sex}-{stage}-averagemuscle"
        total += np.float32(share * light) * shapes[f"{build}-minweight"]
        total += np.float32(share * heavy) * shapes[f"{build}-maxweight"]
        total += np.float32(share * (1 - light - heavy)) * shapes[f"{build}-averageweight"]
    return total


def shape_axes(names) -> list[tuple[int, int]]:
    """(index of one direction, index of its opposite or -1) for each signed axis of targets."""
    index = {str(name): i for i, name in enumerate(names)}
    axes, taken = [], set()
    for name, i in index.items():
        if i in taken:
            continue
        stem, _, last = name.rpartition("-")
        partner = -1
        for one, other in OPPOSITES:
            if last in (one, other):
                partner = index.get(f"{stem}-{other if last == one else one}", -1)
        axes.append((i, partner))
        taken |= {i, partner}
    return axes


def _local_shape(assets: HeadAssets, rng, spread: float) -> np.ndarray:
    """Signed normal weights on the shape axes; left and right eyes, ears, cheeks nearly agree."""
    names = [str(n) for n in assets.local_names]
    weights: dict[str, float] = {}
    total = np.zeros_like(assets.base)
    for i, opposite in shape_axes(names):
        name = names[i]
        plain = name[2:] if name[:2] in ("l-", "r-") else name
        sigma = AXIS_SPREAD[plain.split("-")[0]]
        if name in SIDEWAYS or (opposite >= 0 and names[opposite] in SIDEWAYS):
            sigma = 0.06
        drawn, wobble = rng.normal(0, sigma), rng.normal(0, 0.12 * sigma)
        weight = weights.setdefault(plain, float(np.clip(drawn, -0.8, 0.8))) + wobble
        if opposite < 0:
            weight = max(0.0, weight)
        shape = assets.local_shapes[i if weight >= 0 else opposite]
        total += np.float32(abs(weight) * spread) * shape
    return total
