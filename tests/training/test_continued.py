"""Runs that go on: past bad records, and beyond their end."""

import pytest

from facelib.cli.main import main
from facelib.errors import UserError
from facelib.formats.recordio import write_face_records
from facelib.runs.folder import create_run, load_run, read_lines
from facelib.runs.launch import launch
from facelib.training.continued import longer
from facelib.training.trained import load_model
from tests.data.toys import write_jpeg
from tests.training.test_train import largest_difference, tiny, weights


@pytest.mark.slow
def test_a_run_that_met_a_bad_record_goes_on_as_its_error_says(tmp_path, runs_folder):
    # Catches: advice that starts another run from step 0, or weights that depend on when the
    # record was met.
    payloads = [(i // 4, write_jpeg(tmp_path / f"{i}.jpg", i % 200, (16, 16))) for i in range(120)]
    payloads[70] = (17, b"no picture")
    folder = tmp_path / "late"
    write_face_records(folder, payloads, size=(16, 16))
    cfg = tiny(folder, workers=1, save_every=1, images_seen=160)
    with pytest.raises(UserError, match="go on without such records") as met:
        launch(cfg)
    assert "resume with" not in str(met.value)
    line = str(met.value).rpartition("python -m facelib ")[2].split()
    assert main(line) == 0
    whole = launch(cfg.replace(skip_bad=True))
    assert largest_difference(weights(load_run(cfg.run_name)), weights(whole)) == 0
    load_model(cfg.run_name)


@pytest.mark.slow
def test_a_finished_run_is_trained_longer_from_its_weights_and_optimiser(
    tiny_records, runs_folder, capsys
):
    # Catches: the finished run overwritten, a start from step 0, momentum or the order begun anew.
    cfg = tiny(tiny_records, lr=0.01, schedule="steps", drops="0.9", warmup=0.0)
    first = launch(cfg)
    kept = (first.checkpoint).read_bytes()
    assert main(["train", "--run", first.name, "--images-seen", "192", "--no-eval"]) == 0
    second = load_run(cfg.replace(images_seen=192, continues=first.name).run_name)
    steps = [row["step"] for row in read_lines(second.path / "metrics.jsonl") if "loss" in row]
    assert steps == [7, 8, 9, 10, 11, 12]
    assert "Not equal to a run of 12 steps" in (second.path / "train.log").read_text()
    assert first.checkpoint.read_bytes() == kept
    assert main(["train", "--run", first.name, "--images-seen", "96"]) == 2
    assert "has seen 96; give 112 or more" in capsys.readouterr().err


def test_a_continuation_skips_what_its_run_skipped_and_takes_no_other_settings(
    tiny_records, runs_folder, capsys
):
    # Catches: the bad record that ends the continuation too; --set and --preset passed over.
    run = create_run(tiny(tiny_records))
    run.set_status(state="done", step=6, skip_bad=True)
    assert longer(run, 192).skip_bad
    run.set_status(skip_bad=False)
    assert longer(run, 192, skip_bad=True).skip_bad and not longer(run, 192).skip_bad
    assert main(["train", "--run", run.name, "--set", "lr=1", "--preset", "smoke"]) == 2
    assert "--preset, --set with --run: that run keeps its settings" in capsys.readouterr().err
