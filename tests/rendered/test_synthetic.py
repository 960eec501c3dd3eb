"""The rendered data set: formats, splits, pairs, determinism, failures."""

import json

import numpy as np
import pytest

from facelib.errors import UserError
from facelib.formats.benchmarks import load_benchmark, save_benchmark
from facelib.formats.recordio import RecordReader
from facelib.rendered import synthetic
from facelib.rendered.dataset import rendered_dataset
from facelib.rendered.scene import OCCLUDERS
from facelib.rendered.synthetic import RenderedSpec, choose_pairs, contact_sheet

TINY = RenderedSpec(identities=4, images=3, test_identities=20, size=32, seed=5)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def tiny(root):
    return rendered_dataset(TINY, root, workers=1)


def test_the_training_set_is_a_face_recordio_with_a_row_of_meta_data_for_each_image(tiny):
    # Mutation: meta rows in another order than the records.
    reader = RecordReader(tiny / "train.rec")
    first_identity, end = reader.header(0).label
    assert (first_identity, end) == (13, 17)
    with np.load(tiny / "train.meta.npz", allow_pickle=False) as meta:
        labels = [reader.header(key).label for key in range(1, 13)]
        assert labels == meta["label"].tolist() == sorted(labels)
        assert meta["landmarks"].shape == (12, 5, 2)
        assert (np.abs(meta["landmarks"] - 16) < 24).all()
        assert (np.abs(meta["yaw"]) <= 115).all()
    assert (tiny / "property").read_text() == "4,32,32\n"
    assert len((tiny / "names.txt").read_text().split()) == 4
    assert json.loads((tiny / "spec.json").read_text())["seed"] == 5


@pytest.mark.parametrize("name", ["cfp_ff", "cfp_fp", "lfw"])
def test_folds_have_other_people_and_none_of_them_is_in_training(tiny, name):
    # Mutation: identities shared by two folds, or numbered like training labels.
    bench = load_benchmark(tiny / f"{name}.bin")
    people = [set(bench.id1[bench.fold == f]) | set(bench.id2[bench.fold == f]) for f in range(10)]
    assert sum(map(len, people)) == len(set.union(*people)) == 20
    assert min(set.union(*people)) >= TINY.identities
    assert np.array_equal(bench.same, bench.id1 == bench.id2)
    assert bench.same.mean() == 0.5


def test_profiles_are_profiles_and_frontals_are_frontal(tiny):
    # Mutation: radians stored as degrees, or sides swapped.
    ff, fp = (load_benchmark(tiny / f"{name}.bin") for name in ("cfp_ff", "cfp_fp"))
    assert np.abs(np.concatenate([ff.yaw1, ff.yaw2, fp.yaw1])).max() < 30
    assert np.abs(fp.yaw2).min() >= 68.9 and np.abs(fp.yaw2).max() <= 90.1


def test_what_hides_a_face_is_told_of_each_picture_and_is_in_no_digest(tiny, tmp_path):
    # Catches: the two sides swapped; glasses forgotten; a fact in the digest of the pairs.
    bench = load_benchmark(tiny / "lfw.bin")
    sides = zip(np.r_[bench.index1, bench.index2], np.r_[bench.hidden1, bench.hidden2])
    told = {(int(i), str(hidden)) for i, hidden in sides}
    assert len(told) == len(bench.images)  # one word for each picture, on either side
    kinds = {kind for _, text in told for kind in text.split(", ")}
    assert {"", "glasses"} < kinds <= {"", *OCCLUDERS, "glasses", "dark glasses"}
    sides = [[bench.images[i] for i in index] for index in (bench.index1, bench.index2)]
    save_benchmark(tmp_path / "x.bin", *sides, bench.same, bench.fold, bench.id1, bench.id2)
    assert load_benchmark(tmp_path / "x.bin").digest == bench.digest


def test_the_default_benchmarks_have_7000_different_pairs():
    # Mutation: pairs drawn with replacement, or (a, b) and (b, a) both kept.
    for first, second in ((range(7), range(7)), (range(7), range(7, 10))):
        pairs, same, fold = choose_pairs(np.random.default_rng(0), 200, first, second)
        assert len(pairs) == 7000 and same.sum() == 3500
        assert len({frozenset(map(tuple, pair.tolist())) for pair in pairs}) == 7000
        assert np.array_equal(fold, np.repeat(np.arange(10), 700))
        assert same.reshape(10, 700)[:, :350].all() and not same.reshape(10, 700)[:, 350:].any()


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_number_of_processes(tiny, tmp_path):
    # Mutation: one generator shared by all pictures of a process.
    other = rendered_dataset(TINY, tmp_path, workers=2)
    files = sorted(path.name for path in tiny.iterdir())
    assert files == sorted(path.name for path in other.iterdir())
    for name in files:
        assert (tiny / name).read_bytes() == (other / name).read_bytes(), name


def test_a_second_call_reads_the_folder_and_another_seed_makes_another(tiny, root):
    # Mutation: the seed left out of the digest.
    before = (tiny / "train.rec").stat().st_mtime_ns
    assert rendered_dataset(TINY, root) == tiny
    assert (tiny / "train.rec").stat().st_mtime_ns == before
    assert RenderedSpec(seed=1).digest() != RenderedSpec(seed=2).digest()


def test_a_failed_build_leaves_nothing_under_the_final_name(tmp_path, monkeypatch):
    # Mutation: building in place.
    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthetic, "write_face_records", full_disk)
    with pytest.raises(OSError, match="No space"):
        rendered_dataset(TINY, tmp_path, workers=1)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    "wrong",
    [{"identities": 1}, {"size": 8}, {"seed": -1}, {"nuisance": "much"}, {"images": 2.5}],
)
def test_a_bad_value_is_named_with_what_is_allowed(wrong):
    # Mutation: a value that fails an hour later inside the renderer.
    ((name, value),) = wrong.items()
    with pytest.raises(UserError, match=f"{name}={value!r}.* from .* to ") as caught:
        RenderedSpec(**wrong)
    assert "next:" in str(caught.value)


def test_a_contact_sheet_has_a_person_a_row_and_a_yaw_a_column(root):
    # Mutation: rows and columns exchanged, or the same person in every row.
    sheet = contact_sheet(TINY, identities=2, yaws=(0, 40, -80), root=root)
    assert sheet.shape == (2 * 112, 3 * 112, 3) and sheet.dtype == np.uint8
    assert np.abs(sheet[:112].astype(int) - sheet[112:]).mean() > 5
