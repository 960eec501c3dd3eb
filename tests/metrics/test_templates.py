"""IJB templates: small files of the official format, a naive restatement, answers known ahead."""

import json

import numpy as np
import pytest
import torch

from facelib.__main__ import main
from facelib.config import make_config
from facelib.errors import BadData, UserError
from facelib.evaluate import ijb
from facelib.evaluate.ijb import embed_faces, run_embedder
from facelib.formats.decode import encode_jpeg
from facelib.metrics import templates
from facelib.metrics.templates import (
    TemplateProtocol,
    score_pairs,
    template_embeddings,
    verify_templates,
)
from facelib.prepare.ijb import read_protocol
from facelib.runs.folder import create_run
from facelib.training.trained import load_model
from tests.losses.test_training import trained

POINTS = "38.3 51.7 73.5 51.5 56.0 71.7 41.5 92.4 70.7 92.2"  # the template itself: aligned


def write_meta(folder, images, pairs, name="ijbc", points=True):
    """The official files: images (template, media) in order, pairs (t1, t2, label)."""
    lines = [f"{i + 1}.jpg {t} {m}" for i, (t, m) in enumerate(images)]
    (folder / f"{name}_face_tid_mid.txt").write_text("\n".join(lines) + "\n")
    lines = [" ".join(map(str, pair)) for pair in pairs]
    (folder / f"{name}_template_pair_label.txt").write_text("\n".join(lines) + "\n")
    lines = [f"{i + 1}.jpg {POINTS} {0.5 + i / 100}" for i in range(len(images))]
    if points:
        (folder / f"{name}_name_5pts_score.txt").write_text("\n".join(lines) + "\n")
    return folder


IMAGES = [(7, 1), (7, 1), (7, 2), (3, 5), (9, 8), (9, 9), (3, 5)]
PAIRS = [(7, 3, 1), (3, 9, 0), (9, 7, 0)]


def naive_template(emb, images, wanted):
    """Mean inside a media, sum over media, unit norm, with loops."""
    total = np.zeros(emb.shape[1])
    for media in {m for t, m in images if t == wanted}:
        rows = [i for i, pair in enumerate(images) if pair == (wanted, media)]
        total += sum(emb[i] for i in rows) / len(rows)
    return total / np.linalg.norm(total)


def test_templates_and_scores_equal_the_definition_written_with_loops(tmp_path):
    # Catches: a mean over all images, media of another template joined, rows in file order.
    protocol = read_protocol(write_meta(tmp_path, IMAGES, PAIRS))
    emb = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    unit = template_embeddings(emb, protocol.template, protocol.media)
    naive = {t: naive_template(emb, IMAGES, t) for t in (3, 7, 9)}
    assert np.allclose(unit, [naive[3], naive[7], naive[9]], atol=1e-6)
    scores = score_pairs(unit, protocol.index1, protocol.index2)
    assert np.allclose(scores, [naive[a] @ naive[b] for a, b, _ in PAIRS], atol=1e-6)
    assert protocol.same.tolist() == [True, False, False]
    assert protocol.landmarks.shape == (7, 5, 2)


def test_one_media_with_many_frames_weighs_as_much_as_one_picture():
    # Catches: frames of a video counted as pictures.
    emb = np.array([[1.0, 0.0]] * 9 + [[0.0, 1.0]])
    unit = template_embeddings(emb, np.zeros(10, int), np.array([1] * 9 + [2]))
    assert np.allclose(unit, [[0.5**0.5, 0.5**0.5]])


def test_the_detector_score_weighs_images_inside_a_media(tmp_path, monkeypatch):
    # Catches: scores ignored, applied to the template, of other images, or applied where refused.
    protocol = read_protocol(write_meta(tmp_path, IMAGES, PAIRS))
    emb = np.random.default_rng(1).normal(size=(7, 5)).astype(np.float32)
    score = 0.5 + np.arange(7) / 100
    pooled = []

    def kept(*given):
        pooled.append(template_embeddings(*given))
        return pooled[-1]

    monkeypatch.setattr(templates, "template_embeddings", kept)
    assert verify_templates(protocol, emb)["detector_score"]
    assert not verify_templates(protocol, emb, detector_score=False)["detector_score"]
    for found, rows in zip(pooled, (emb * score[:, None], emb), strict=True):
        wanted = [naive_template(rows, IMAGES, t) for t in (3, 7, 9)]
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.abs(pooled[0] - pooled[1]).max() > 1e-3


def test_tar_at_far_has_the_known_answer_on_made_scores():
    # Catches: interpolation, a FAR finer than the impostors allow, a pooled mean.
    # Cosines by construction: template i > 0 stands at angle a_i from template 0.
    rng = np.random.default_rng(2)
    angle = np.r_[0, np.full(60, 0.2), np.linspace(0.1, 3.0, 1000)]
    emb = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    rows = rng.permutation(np.arange(1, len(angle)))
    protocol = TemplateProtocol(
        [str(i) for i in range(len(emb))], np.arange(len(emb)), np.arange(len(emb)),
        np.arange(len(emb)), np.zeros(len(rows), int), rows, rows <= 60, None, None,
    )  # fmt: skip
    found = verify_templates(protocol, emb)["tar_at_far"]
    below = int((np.linspace(0.1, 3.0, 1000) < 0.2).sum())  # 35 impostors above the genuine
    assert below == 35
    assert found == {
        "1e-6": None,
        "1e-5": None,
        "1e-4": None,
        "1e-3": 0.0,
        "1e-2": 0.0,
        "1e-1": 1.0,
    }


@pytest.mark.parametrize("pairs", [0, 1, 10, 7_000])
@pytest.mark.parametrize("gallery", [3, 40], ids=["few against all", "any two"])
@pytest.mark.parametrize("area", [1, 90, 1 << 24])
def test_blocks_do_not_change_a_score(pairs, gallery, area, monkeypatch):
    # Catches: a lost last block, a row's place taken for a column's, pairs in the order of blocks.
    monkeypatch.setattr(templates, "AREA", area)
    rng = np.random.default_rng(3)
    unit = rng.normal(size=(40, 8)).astype(np.float32)
    a, b = rng.integers(40 - gallery, 40, size=pairs), rng.integers(40, size=pairs)
    score = score_pairs(unit, a, b)
    assert score.dtype == np.float32 and np.allclose(score, (unit[a] * unit[b]).sum(1), atol=1e-5)


def test_wrong_files_are_one_clear_error(tmp_path):
    # Catches: a traceback from pandas, a template without images scored as zeros.
    with pytest.raises(UserError, match="no ijbb_face_tid_mid.txt or ijbc_face_tid_mid"):
        read_protocol(tmp_path)
    write_meta(tmp_path, IMAGES, [*PAIRS, (7, 8, 0)])
    with pytest.raises(BadData, match="pair_label.txt: line 4 names template 8, which no image"):
        read_protocol(tmp_path)
    write_meta(tmp_path, IMAGES, [(7, 3, 2)])
    with pytest.raises(BadData, match=r"labels \[2\], wanted 0 and 1"):
        read_protocol(tmp_path)
    write_meta(tmp_path, IMAGES, [(7, "x", 1)])
    with pytest.raises(BadData, match="lines of template id, template id, label"):
        read_protocol(tmp_path)
    write_meta(tmp_path, [(7, "1 5"), *IMAGES[1:]], PAIRS)
    with pytest.raises(BadData, match="tid_mid.txt: .*(wanted|read as) lines of"):
        read_protocol(tmp_path)
    write_meta(tmp_path, IMAGES, PAIRS)
    write_meta(tmp_path, IMAGES, PAIRS, name="ijbb")
    with pytest.raises(UserError, match="add --name ijbb or --name ijbc"):
        read_protocol(tmp_path)
    protocol = read_protocol(tmp_path, "ijbb")
    with pytest.raises(UserError, match=r"shape \(6, 4\), wanted \(7, d\)"):
        verify_templates(protocol, np.ones((6, 4), np.float32))
    (tmp_path / "ijbb_name_5pts_score.txt").write_text(f"2.jpg {POINTS} 1\n" * 7)
    with pytest.raises(BadData, match=r"line 1 is 2.jpg, wanted the 7 images"):
        read_protocol(tmp_path, "ijbb")
    for end in ("-1", "1e300"):  # its square is infinite
        lines = [f"{i}.jpg {POINTS} 1\n" for i in range(1, 7)] + [f"7.jpg {POINTS} {end}\n"]
        (tmp_path / "ijbb_name_5pts_score.txt").write_text("".join(lines))
        with pytest.raises(BadData, match="line 7: wanted landmarks below"):
            read_protocol(tmp_path, "ijbb")


def test_images_are_aligned_by_the_list_s_landmarks(tmp_path):
    # Catches: landmarks of another image, x and y swapped, BGR: each image is its own colour.
    protocol = read_protocol(write_meta(tmp_path, IMAGES, PAIRS))
    for i in range(7):
        picture = np.full((112, 112, 3), 20, np.uint8)
        picture[40:60, 30:50] = (200, 10 * i, 60)  # around the eye on the left
        (tmp_path / f"{i + 1}.jpg").write_bytes(encode_jpeg(picture, 100))
    seen = embed_faces(protocol, tmp_path, lambda x: x[:, 52, 38], 112, batch=3)
    assert seen.shape == (7, 3)
    assert np.allclose(seen, [(200, 10 * i, 60) for i in range(7)], atol=12)
    (tmp_path / "3.jpg").unlink()
    with pytest.raises(BadData, match=r"3.jpg: no such image"):
        embed_faces(protocol, tmp_path, lambda x: x[:, 52, 38], 112)


def test_pixels_outside_a_picture_are_filled_as_the_run_asks(runs_folder, tmp_path, monkeypatch):
    # Catches: a border that does not get from the run to the command and to the alignment.
    write_meta(tmp_path, IMAGES, PAIRS)
    for i in range(7):  # grey, and half as wide as the template: its right half lies outside
        picture = np.full((112, 56, 3), 100 + i, np.uint8)
        (tmp_path / f"{i + 1}.jpg").write_bytes(encode_jpeg(picture))
    name = create_run(make_config()).name
    command = ["ijb", str(tmp_path), "--run", name, "--images", str(tmp_path)]
    for border, outside in (("black", [1] * 7), ("replicate", list(range(101, 108)))):
        found = (lambda x: x[:, 50, [10, 100], 0] + 1.0, 112, border)
        monkeypatch.setattr(ijb, "run_embedder", lambda _, found=found: found)
        assert main([*command, "--save", str(tmp_path / "emb.npy")]) == 0
        emb = np.load(tmp_path / "emb.npy")
        np.testing.assert_allclose(emb.T, [range(101, 108), outside], atol=3)


@pytest.mark.parametrize(("fill", "border"), [("none", "black"), ("replicate", "replicate")])
def test_a_run_s_border_is_the_one_it_was_trained_with(runs_folder, monkeypatch, fill, border):
    # Catches: a fixed border; black edges that a run trained with filled ones has never seen.
    run = create_run(make_config(fill_border=fill))
    monkeypatch.setattr("facelib.evaluate.ijb.load_model", lambda _: (torch.nn.Identity(), ""))
    assert run_embedder(run.path)[1:] == (32, border)


def test_a_trained_run_embeds_the_sum_of_an_image_and_its_mirror(tiny_records, runs_folder):
    # Catches: the mirror left out, pixels that are not scaled to [-1, 1], dropout switched on.
    cfg = make_config(
        data=str(tiny_records), benchmarks="", width=4, image_size=16, dim=8, images_seen=16,
        global_batch=16, val_fraction=0.0, dropout=0.3, threads=1,
    )  # fmt: skip
    run = trained(cfg, 1).run
    embed, size, _ = run_embedder(run.path)
    pixels = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    model, _ = load_model(run.path)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        expected = model(x) + model(x.flip(3))
    assert size == 16
    assert np.allclose(embed(pixels), expected, atol=1e-5)
    assert np.allclose(embed(pixels), embed(pixels[:, :, ::-1].copy()), atol=1e-4)


def test_the_command_line_reads_features_and_says_what_is_missing(tmp_path, capsys):
    # Catches: exit code 1, options that are silently ignored.
    write_meta(tmp_path, IMAGES, PAIRS)
    emb = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    np.save(tmp_path / "emb.npy", emb)
    assert main(["ijb", str(tmp_path), "--features", str(tmp_path / "emb.npy"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["templates"], found["genuine"], found["impostors"]) == (3, 1, 2)
    assert main(["ijb", str(tmp_path), "--features", str(tmp_path / "emb.npy")]) == 0
    assert "1e-4: not estimable" in capsys.readouterr().out
    assert main(["ijb", str(tmp_path)]) == 2
    assert "give either --features" in capsys.readouterr().err


def test_the_lists_are_read_once_by_a_command(tmp_path, monkeypatch, capsys):
    # Catches: fifteen million lines parsed when they are looked at, and again for the figures.
    from facelib.prepare import ijb as lists

    read, calls = lists.read_protocol, []
    monkeypatch.setattr(lists, "read_protocol", lambda *given: calls.append(1) or read(*given))
    write_meta(tmp_path, IMAGES, PAIRS)
    np.save(tmp_path / "emb.npy", np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32))
    assert main(["ijb", str(tmp_path), "--features", str(tmp_path / "emb.npy"), "--json"]) == 0
    assert len(calls) == 1 and json.loads(capsys.readouterr().out)
