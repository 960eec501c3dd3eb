"""What is known of rendered people, and the same head with one trait changed.

The traits are those of the head model and of `people.py`: its shapes have names like *african* or
*old*, which are parameters of a mesh and describe no real group.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.errors import UserError
from facelib.paths import data_root
from facelib.rendered.heads import HeadAssets, load_assets
from facelib.rendered.mesh import build_model
from facelib.rendered.people import ANCESTRIES, Person, reshape, tan
from facelib.rendered.render import render
from facelib.rendered.scene import Conditions, sample_conditions
from facelib.rendered.spec import AGAIN, ITSELF, STRANGER, RenderedSpec
from facelib.rendered.styles import BEARDS, HAIRSTYLES
from facelib.rendered.synthetic import TEST, encode, person_of

SCENES = 5  # of the random numbers: pictures of twins have scenes of their own
AGE_STEP, MELANIN_STEP = 0.5, 0.3  # up, or down where there is no room above


def person_traits(spec: RenderedSpec, root: Path | None = None) -> pd.DataFrame:
    """Who the people of the three benchmarks are; nothing is drawn.

    Returns:
        One row per person, indexed by `id1` and `id2` of the benchmarks: shares of the head shapes
        (african, asian, caucasian), sex, age (0 young adult to 1 old), melanin (0 light to 1 dark).
    """
    assets = load_assets(Path(root or data_root()))
    people = [person_of(assets, spec, TEST, i) for i in range(spec.test_identities)]
    rows = [
        {
            **dict(zip(ANCESTRIES, person.ancestry)),
            "sex": "male" if person.male else "female",
            "age": person.age,
            "melanin": person.melanin,
        }
        for person in people
    ]
    ids = spec.identities + np.arange(len(rows))
    return pd.DataFrame(rows, index=pd.Index(ids, name="identity"))


def changed(assets: HeadAssets, person: Person) -> dict[str, Person]:
    """The person with one trait changed, by what changes; `ITSELF` is the person.

    Ancestry (its shares passed on by one place) and sex change the shape of the head alone, age
    also the lines of the skin, skin the colour alone. Beards change on men only.
    """
    age = person.age + (AGE_STEP if person.age < 0.5 else -AGE_STEP)
    melanin = person.melanin + (MELANIN_STEP if person.melanin < 0.5 else -MELANIN_STEP)
    style = "short" if person.hairstyle.curtain else "long with fringe"
    shaven = person.beard.name == "none"
    twins = {
        ITSELF: person,
        "ancestry": reshape(assets, person, ancestry=np.roll(person.ancestry, 1)),
        "sex": reshape(assets, person, male=not person.male),
        "age": replace(reshape(assets, person, age=age), age=age),
        "skin": tan(person, melanin),
        "hair": replace(person, hairstyle=HAIRSTYLES[style]),
        "glasses": replace(person, glasses=0 if person.glasses else 1),
    }
    if person.male:
        twins["beard"] = replace(person, beard=BEARDS["full" if shaven else "none"])
    return twins


def draw_twins(
    spec: RenderedSpec, heads: int = 12, yaws: Sequence[float] = (0, 35, 70), root=None
) -> tuple[list[bytes], pd.DataFrame]:
    """Benchmark people and their `changed` twins, under the same camera, light and expression.

    Beside them `AGAIN`, the person in another scene, and `STRANGER`, the next person in this one.
    Nothing covers a face, and who owns glasses wears them.

    Returns:
        JPEGs, and a row for each: head, yaw (degrees), what.
    """
    if not 2 <= heads <= spec.test_identities:
        raise UserError(
            f"heads={heads} is not allowed, it must be from 2 to {spec.test_identities}, the "
            "people of the benchmarks; next: test_identities=N renders more"
        )
    assets = load_assets(Path(root or data_root()))
    people = [person_of(assets, spec, TEST, i) for i in range(heads)]
    jpegs, rows = [], []
    for head, person in enumerate(people):
        twins = {**changed(assets, person), AGAIN: person, STRANGER: people[(head + 1) % heads]}
        for what, twin in twins.items():
            model = build_model(assets, twin)
            for yaw in yaws:
                scene = _scene(spec, head, yaw, again=what == AGAIN)
                jpegs.append(encode(render(assets, model, scene, spec.size)))
                rows.append({"head": head, "yaw": yaw, "what": what})
    return jpegs, pd.DataFrame(rows)


def _scene(spec: RenderedSpec, head: int, yaw: float, again: bool) -> Conditions:
    rng = np.random.default_rng([spec.seed, SCENES, head, int(yaw) % 360, again])
    drawn = sample_conditions(rng, np.radians(yaw), spec.nuisance)
    return replace(drawn, shows_glasses=0.5, dark_lenses=False, occluder="")
