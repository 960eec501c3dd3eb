"""Rendered faces a second and core, by picture size; prints JSON.

python tests/bench/bench_render.py [--images 200]
"""

import argparse
import json
import time

import cv2
import numpy as np
import repo  # noqa: F401

from facelib.rendered.heads import load_assets
from facelib.rendered.mesh import build_model
from facelib.rendered.people import sample_person
from facelib.rendered.render import render
from facelib.rendered.scene import sample_conditions


def measure(assets, size: int, images: int, per_person: int = 20) -> dict[str, float]:
    """CPU seconds of this process: pictures a second without and with making the people."""
    drawing = making = 0.0
    for person in range(images // per_person):
        start = time.process_time()
        model = build_model(assets, sample_person(assets, [7, person]))
        made = time.process_time()
        for number in range(per_person):
            rng = np.random.default_rng([7, person, number])
            render(assets, model, sample_conditions(rng, rng.normal(0, 0.5)), size)
        making += made - start
        drawing += time.process_time() - made
    return {
        "images_per_second_and_core": round(images / drawing, 1),
        "with_people_20_images_each": round(images / (drawing + making), 1),
        "seconds_per_person": round(making / (images // per_person), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200, help="pictures of each size")
    images = parser.parse_args().images
    cv2.setNumThreads(1)
    start = time.perf_counter()
    assets = load_assets()
    measure(assets, 48, 20)
    result = {"warm_up_seconds": round(time.perf_counter() - start, 1)}
    for size in (48, 64, 112):
        result[str(size)] = measure(assets, size, images)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
