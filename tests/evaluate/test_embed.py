"""Embedding: each unique image once, the same numbers for any batch, caches that see changes."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image
from torch import nn

from facelib.config import make_config
from facelib.errors import BadData, UserError
from facelib.evaluate.embed import (
    embed_benchmark,
    embed_images,
    evaluate_benchmark,
    evaluate_run,
    score_benchmark,
    unit_rows,
)
from facelib.formats.benchmarks import load_benchmark, save_benchmark
from facelib.metrics.scores import load_scores
from facelib.runs.folder import create_run
from facelib.runs.launch import free_port


def picture(seed: int, size: int = 24) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((size, size)).save(out, "PNG")
    return out.getvalue()


class CountingModel(nn.Module):
    """Linear map of the pixels; counts the images it sees, with dropout that eval switches off."""

    def __init__(self, size=16, dim=8):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * size * size, dim))
        self.seen = 0

    def forward(self, x):
        assert x.min() >= -1 and x.max() <= 1
        self.seen += len(x)
        return self.net(x)


@pytest.fixture
def bench(tmp_path):
    """40 pairs over 20 images, two images a person, five folds."""
    first = np.arange(40) % 20
    second = np.where(np.arange(40) < 20, first ^ 1, (first + 4) % 20)
    images = [picture(i) for i in range(20)]
    path = tmp_path / "toy.bin"
    save_benchmark(
        path, [images[i] for i in first], [images[j] for j in second], first // 2 == second // 2,
        fold=np.arange(40) % 5, id1=first // 2, id2=second // 2,
    )  # fmt: skip
    return load_benchmark(path)


def test_pixels_are_rgb_in_minus_one_to_one():
    # catches: BGR, [0, 1], (x - 127.5) / 128, channels not moved first
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 0] = 255
    image[..., 1] = 51
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    means = nn.Sequential(nn.AvgPool2d(8), nn.Flatten())
    emb, _ = embed_images(means, [out.getvalue()], 8)
    assert emb[0] == pytest.approx([1.0, -0.6, -1.0], abs=1e-6)


def test_batches_do_not_change_embeddings_and_the_mode_is_restored():
    # catches: a lost last batch, dropout left on, eval mode leaking into training
    images = [picture(i) for i in range(11)]
    model = CountingModel().train()
    one, one_flip = embed_images(model, images, 16, batch=1, flip=True)
    all_, all_flip = embed_images(model, images, 16, batch=4, flip=True)
    assert one.shape == (11, 8) and one.dtype == np.float32
    assert np.allclose(one, all_, atol=1e-6) and np.allclose(one_flip, all_flip, atol=1e-6)
    assert model.training


def test_flipping_mirrors_left_and_right():
    # catches: an upside-down flip, channels reversed
    def mirrored(png: bytes) -> bytes:
        out = io.BytesIO()
        Image.open(io.BytesIO(png)).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(out, "PNG")
        return out.getvalue()

    image = picture(3, size=16)
    _, flipped = embed_images(CountingModel(), [image], 16, flip=True)
    wanted, none = embed_images(CountingModel(), [mirrored(image)], 16)
    assert none is None
    assert flipped == pytest.approx(wanted, abs=1e-6)


def test_scores_are_cosines_of_f_and_of_the_sum_with_the_mirror(bench):
    # catches: a sum of unit vectors instead of f(x) + f(flip x), a score per image side mixed up
    rng = np.random.default_rng(0)
    emb, flip = rng.normal(size=(2, 20, 8)).astype(np.float32) * 7
    scores = score_benchmark(emb, flip, bench)
    for p in range(40):
        i, j = bench.index1[p], bench.index2[p]
        for source, found in ((emb, scores.score), (emb + flip, scores.score_flip)):
            a, b = source[i], source[j]
            wanted = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            assert found[p] == pytest.approx(wanted, abs=1e-6)
    assert np.array_equal(scores.id1, bench.id1) and np.array_equal(scores.index2, bench.index2)
    assert score_benchmark(emb, None, bench).score_flip is None
    assert np.linalg.norm(unit_rows(emb), axis=1) == pytest.approx(1, abs=1e-15)


def test_each_unique_image_is_embedded_once_and_kept(bench, tmp_path):
    # catches: embedding per pair, a cache that ignores the checkpoint, size or border
    model = CountingModel()

    def evaluate(checkpoint="a", **changes):
        before = model.seen
        report = evaluate_benchmark(tmp_path, bench, model, checkpoint, 16, bootstrap=0, **changes)
        return report, model.seen - before

    report, seen = evaluate()
    assert seen == 2 * 20 and report["images"] == 20 and report["flip"] is True
    again, seen = evaluate()
    assert seen == 0 and again == report
    assert evaluate(checkpoint="b")[1] == 40
    assert evaluate(checkpoint="b", fill_border="replicate")[1] == 40
    assert evaluate(checkpoint="b", fill_border="replicate", force=True)[1] == 40
    assert len(load_scores(tmp_path / "scores" / "toy.npz").score) == 40


def test_an_image_of_two_benchmarks_is_embedded_once(bench, tmp_path):
    # catches: CFP's frontal images embedded for FF and again for FP; rows of another image
    model, known = CountingModel(), {}
    fewer = dataclasses.replace(
        bench,
        name="fewer",
        images=bench.images[5:],
        index1=np.arange(10),
        index2=np.arange(10)[::-1],
    )
    alone = embed_benchmark(tmp_path / "alone", fewer, model, "a", 16)
    embed_benchmark(tmp_path, bench, model, "a", 16, known=known)
    before = model.seen
    shared = embed_benchmark(tmp_path, fewer, model, "a", 16, known=known)
    assert model.seen == before
    assert np.allclose(shared, alone, atol=1e-6)


def evaluate_as_rank(rank: int, folder: Path, port: int) -> None:
    store = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    model = CountingModel()
    bench = load_benchmark(folder / "toy.bin")
    figures = evaluate_benchmark(folder / "two", bench, model, "a", 16, bootstrap=0)
    (folder / f"{rank}.json").write_text(json.dumps({"seen": model.seen, **figures}))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_share_the_images_and_the_first_has_the_figures(bench, tmp_path):
    # catches: every rank embedding everything, rows of the ranks in the wrong order, the row that
    # evens the shares (21 images, 11 each) left among the rows
    first, second = np.arange(21), np.roll(np.arange(21), 1)
    images, same = [picture(i) for i in range(21)], np.arange(21) % 3 > 0
    save_benchmark(tmp_path / "toy.bin", images, [images[j] for j in second], same, fold=first % 4)
    alone = CountingModel()
    single = evaluate_benchmark(
        tmp_path / "one", load_benchmark(tmp_path / "toy.bin"), alone, "a", 16, bootstrap=0
    )
    mp.spawn(evaluate_as_rank, args=(tmp_path, free_port()), nprocs=2)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert alone.seen == 42 and [part.pop("seen") for part in found] == [22, 22]
    assert found[1] == {} and found[0]["best"]["accuracy"] == single["best"]["accuracy"]
    one, two = (np.load(tmp_path / run / "embeddings" / "toy.npz") for run in ("one", "two"))
    assert np.allclose(one["emb"], two["emb"], atol=1e-6)
    assert np.allclose(one["emb_flip"], two["emb_flip"], atol=1e-6)


def test_a_damaged_cache_is_made_again(bench, tmp_path):
    # catches: a crash on a half file, stale embeddings taken for good
    model = CountingModel()
    report = evaluate_benchmark(tmp_path, bench, model, "a", 16, bootstrap=0)
    path = tmp_path / "embeddings" / "toy.npz"
    path.write_bytes(path.read_bytes()[:300])
    assert evaluate_benchmark(tmp_path, bench, model, "a", 16, bootstrap=0) == report
    assert model.seen == 80


def test_broken_images_and_networks_are_one_clear_error():
    # catches: NaN cosines reaching the protocols, an error without the image's number
    with pytest.raises(BadData, match="image 1 of 2"):
        embed_images(CountingModel(), [picture(0), b"no image"], 16)
    model = CountingModel()
    with torch.no_grad():
        model.net[2].bias.fill_(float("nan"))
    with pytest.raises(UserError, match="2 of 2 embeddings are not finite"):
        embed_images(model, [picture(0), picture(1)], 16)
    with pytest.raises(UserError, match="no images"):
        embed_images(model, [], 16)


def test_a_broken_image_of_a_benchmark_has_its_number_in_the_file(bench, tmp_path):
    # Catches: a number among the images that no earlier benchmark had.
    broken = dataclasses.replace(bench, images=[*bench.images[:-1], b"no image"])
    known = {image: (np.ones(8), np.ones(8)) for image in bench.images[:-2]}
    number = len(bench.images) - 1
    with pytest.raises(BadData, match=f"toy: image {number} of {number + 1}"):
        embed_benchmark(tmp_path, broken, CountingModel(), "a", 16, known=dict(known))
    model = CountingModel()
    with torch.no_grad():
        model.net[2].bias.fill_(float("nan"))
    with pytest.raises(UserError, match=f"2 of 2 .*first: toy: image {number - 1} of {number + 1}"):
        embed_benchmark(tmp_path, bench, model, "a", 16, known=known)


def test_evaluating_another_benchmark_keeps_the_figures_of_the_same_checkpoint(
    bench, tmp_path, monkeypatch
):
    # catches: eval.json overwritten, figures of an older checkpoint kept, every face "rendered"
    import facelib.evaluate.embed

    run = create_run(make_config(name="toy", image_size=16), root=tmp_path / "runs")
    other = tmp_path / "rendered" / "other.bin"
    sides = [[bench.images[i] for i in index] for index in (bench.index1, bench.index2)]
    save_benchmark(other, *sides, bench.same, fold=bench.fold)
    (other.parent / "spec.json").write_text("{}")
    model = CountingModel()
    for checkpoint, path, wanted in (
        ("a", tmp_path / "toy.bin", {"toy": False}),
        ("a", other, {"toy": False, "other": True}),
        ("b", other, {"other": True}),
    ):
        monkeypatch.setattr(
            facelib.evaluate.embed, "load_model", lambda _, c=checkpoint: (model, c)
        )
        report = evaluate_run(run.path, [path], bootstrap=5)
        assert report == run.evaluation() and report["checkpoint"] == checkpoint
        assert {k: v["rendered"] for k, v in report["benchmarks"].items()} == wanted
    assert report["benchmarks"]["other"]["bootstrap"]["unit"] == "identity"
    with pytest.raises(UserError, match="two benchmarks are called 'toy'"):
        evaluate_run(run.path, [tmp_path / "toy.bin"] * 2, bootstrap=0)
