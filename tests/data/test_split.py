"""A split that leaves validation without what it needs is refused, with settings that work."""

import re

import numpy as np
import pytest

from facelib.cli.main import main
from facelib.config import make_config, parse_settings
from facelib.data.split import checked_split
from facelib.errors import UserError
from facelib.formats.decode import encode_jpeg
from facelib.formats.recordio import write_face_records

GREY = np.full((16, 16, 3), 128, np.uint8)
WITHIN = {"split": "within", "val_fraction": 0.2}


@pytest.mark.parametrize("images", [2, 3, 4])
@pytest.mark.parametrize(
    "asked",
    [WITHIN, WITHIN | {"select": "val_loss"}, WITHIN | {"select": "val_auc"},
     WITHIN | {"select": "val_loss", "loss": "infonce"}, {"select": "val_loss"},
     {"val_fraction": 0.001}, {"val_fraction": 0.999}],
    ids=str,
)  # fmt: skip
def test_settings_that_a_refused_split_advises_work(asked, images):
    # Catches: a run that dies at its first validation, and advice that is refused in turn.
    labels = np.repeat(np.arange(60), images)
    cfg = make_config(global_batch=16, **asked)
    with pytest.raises(UserError, match="val_fraction=") as refused:
        checked_split(cfg, labels)
    advice = re.search(r": use (.*)$", str(refused.value))[1].split()
    train, val = checked_split(cfg.replace(**parse_settings(advice)), labels)
    assert len(train) >= 16
    assert len(val)


def test_a_split_with_enough_images_is_left_as_it_is():
    # Catches: a check that refuses the presets' own data.
    labels = np.repeat(np.arange(60), 5)
    cfg = make_config(global_batch=16, select="val_loss", **WITHIN)
    assert len(checked_split(cfg, labels)[1]) == 60


@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_train_refuses_such_a_split_before_there_is_a_run(tmp_path, runs_folder, capsys, dry):
    # Catches: a run folder that fails at its first validation, and at each resume.
    write_face_records(tmp_path, [(i // 2, encode_jpeg(GREY)) for i in range(40)], size=(16, 16))
    line = f"train --set data={tmp_path} split=within val_fraction=0.2 global_batch=8 benchmarks="
    assert main([*line.split(), *dry]) == 2
    assert "use val_fraction=0.5" in capsys.readouterr().err
    assert not runs_folder.exists()
