"""Config: unknown keys, bad values, digests, presets."""

import dataclasses
import importlib
import math

import pytest

from facelib.config import (
    DIGEST_VERSION,
    FIELDS,
    NOT_IN_DIGEST,
    Config,
    foreign,
    make_config,
    parse_settings,
    settings_among,
    users_of,
)
from facelib.digests import digest_values
from facelib.errors import UserError
from facelib.presets import PRESETS, preset_for
from facelib.rows import LOSS_ROWS, check_value, read_rows
from tests.losses.configs import config_of


def test_an_unknown_setting_names_the_nearest_known_one():
    # Catches: silently ignored typos: the run would go on with a default.
    with pytest.raises(UserError, match=r"'global_bach'.*did you mean 'global_batch'"):
        make_config(global_bach=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "softmax"}, "loss='softmax': allowed are adaface, arcface, center"),
        ({"loss": "infonce", "tau": 0.0}, "tau=0.0: must be above 0"),
        ({"tau": "0.1"}, "wanted float, got str"),
        ({"global_batch": 64.0}, "wanted int, got float"),
        ({"flip": 1}, "wanted bool, got int"),
        ({"warmup": 1.5}, "warmup=1.5: must be at most 1"),
        ({"epochs": 2.0, "images_seen": 64}, "set exactly one above 0"),
        ({"images_seen": 0}, "set exactly one above 0"),
        ({"val_fraction": 0.0, "select": "val_auc"}, "needs val_fraction above 0"),
        ({"loss": "coreface"}, "two dropout views, which dropout=0.0 makes equal: use dropout=0.4"),
        ({"coreface_mask": "one"}, "coreface_mask='one': allowed are zero, clean"),
        ({"loss": "triplet", "images_per_identity": 0}, "use 2 or more, for example 4"),
        ({"loss": "triplet", "global_batch": 4}, "two identities or more in a micro-batch; use 8"),
        ({"loss": "infonce", "images_per_identity": 4}, "takes pairs; use 0"),
        ({"cluster_margin": 2.0}, "cluster_margin=2.0: must be at most 1"),
        ({"cluster_encoder": 1.0}, "must be below 1"),
        ({"schedule": "steps", "drops": "20,40"}, "drops='20,40': wanted rising parts of the run"),
        ({"schedule": "steps", "drops": "0.5,0.25"}, "wanted rising parts of the run"),
        ({"seed": -1}, "seed=-1: must be at least 0"),
        ({"momentum": -5.0}, "momentum=-5.0: must be at least 0"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0: must be at least 0"),
        ({"lr": math.inf}, "lr=inf: wanted a finite number"),
        ({"val_fraction": math.nan}, "val_fraction=nan: wanted a finite number"),
        ({"data_spread": -3.0}, "data_spread=-3.0: must be at least 0"),
        (
            {"adaface_h": 0.9},
            "loss='arcface' has no such setting, it belongs to loss=adaface; leave it at 0.333",
        ),
        ({"loss": "infonce", "subcenters": 5}, "loss='infonce' has no such setting"),
        ({"loss": "magface", "gradient": "straight_through"}, "loss='magface' has no such"),
        ({"lora_rank": 8}, "backbone='iresnet10' has no such setting"),
        ({"backbone": "generic-vit", "width": 32}, "backbone='generic-vit' has no such setting"),
        ({"data": "/faces", "data_seed": 3}, "data='/faces' has no such setting"),
        ({"optimizer": "adam", "momentum": 0.5}, "optimizer='adam' has no such setting"),
        ({"drops": "0.5"}, "schedule='cosine' has no such setting"),
        ({"loss": "cluster", "cluster_term": "triplet"}, "use 2 or more, for example 4"),
        ({"decode_scale": True, "fill_border": "replicate"}, "use decode_scale=false"),
        ({"name": "a/b"}, "a folder name without slashes"),
    ],
)
def test_a_bad_value_is_one_clear_error(changes, message):
    # Catches: a check left out; the message must hold the value and what is allowed.
    with pytest.raises(UserError, match=message):
        make_config(**changes)


def test_a_batch_that_does_not_divide_names_two_that_do():
    # Catches: ranks with unequal shares, or a pair cut in two.
    with pytest.raises(UserError, match="use 64 or 68"):
        make_config(loss="infonce", global_batch=66, processes=2)
    make_config(loss="arcface", global_batch=66, processes=2)
    with pytest.raises(UserError, match="of groups of 4 images: use 64 or 72"):
        make_config(images_per_identity=4, global_batch=66, processes=2)


def other_value(field, cfg=Config):
    """A value of a setting that is not that of `cfg`, or not its default."""
    if field.metadata["choices"]:
        return next(c for c in field.metadata["choices"] if c != getattr(cfg, field.name))
    if field.type is bool:
        return not field.default
    if field.type is str:
        return field.default + "0"
    candidates = (field.default + field.type(1), field.type(field.default / 2), field.type(0.5))
    return next(value for value in candidates if value != field.default and allowed(field, value))


def allowed(field, value):
    try:
        check_value(field, value)
    except UserError:
        return False
    return True


@pytest.mark.parametrize("loss", LOSS_ROWS)
def test_every_setting_is_in_the_digest_but_those_that_change_no_result(loss, monkeypatch):
    # Catches: a new setting that is forgotten: two runs would share one folder.
    monkeypatch.setattr("facelib.config.check_together", lambda cfg: None)
    base = config_of(loss)
    for name, field in FIELDS.items():
        if name == "loss" or foreign(field, base):
            continue
        moved = base.replace(**{name: other_value(field, base)}).digest() != base.digest()
        assert moved == (name not in NOT_IN_DIGEST), name
    assert base.run_name == f"smoke-{loss}-{base.digest()}"


@pytest.mark.parametrize("loss", LOSS_ROWS)
def test_a_loss_is_built_from_the_settings_that_its_row_names_and_from_all_of_them(loss):
    # Catches: a setting read without being declared (it would not be in the digest), or declared
    # and never read (a change of it would train the same run under a new name).
    row, read = LOSS_ROWS[loss], set()
    kinds = [{}, *({name: value} for name, value in row.groups_if.items())]
    kinds += [{"cluster_ring": 2}] if "cluster_ring" in row.taken else []
    kinds += [{"bank": "queue"}, {"sampled_centres": 2}]
    for changes in kinds:
        base = config_of(loss, images_per_identity=2 if row.layout != "pairs" else 0, **changes)

        class Spy:
            def __getattr__(self, name, base=base):
                read.add(name)
                return getattr(base, name)

        build = importlib.import_module(f"facelib.losses.{loss}").build
        build(Spy(), 9, base.dim)
    shared = {n for n, f in FIELDS.items() if f.metadata["of"] == "loss" or users_of(n)}
    bank = {name for name in FIELDS if name.startswith("bank_")}
    assert read & shared == row.taken
    assert read - shared <= bank | {"seed"}


def test_a_setting_that_the_chosen_loss_does_not_have_is_an_error_for_every_pair():
    # Catches: a setting that is ignored, so that a run under a new name is the old one.
    for loss, row in LOSS_ROWS.items():
        base = config_of(loss)
        for name, field in FIELDS.items():
            if users_of(name) and name not in row.taken:
                with pytest.raises(UserError, match=f"{name}=.*loss='{loss}' has no such setting"):
                    base.replace(**{name: other_value(field)})


def test_another_loss_on_the_same_settings_drops_what_it_does_not_have():
    # Catches: with_loss refusing a temperature, or keeping a bank that ArcFace would ignore.
    cfg = make_config(loss="infonce", tau=0.1, bank="queue", bank_slots=64, lr=0.3)
    assert cfg.with_loss("arcface") == make_config(lr=0.3, name="smoke-infonce")
    assert cfg.with_loss("hybrid").tau == 0.1
    assert make_config("ms1m-arcface").gather  # the preset's gather=False is InfoNCE's
    assert not make_config("ms1m-arcface", loss="infonce").gather


def test_settings_among_names_takes_the_parameters_and_nothing_else():
    # Catches: a notebook's other variables handed to make_config.
    assert settings_among({"tau": 0.1, "lr": None, "run": 1, "_": 2}) == {"lr": None, "tau": 0.1}


def test_a_row_with_a_fault_is_an_error_that_names_its_file(tmp_path):
    # Catches: a loss that is silently left out of the study.
    good = """ROW = LossRow(name="one", label="One", layout="plain", head=True, source="x")\n"""
    (tmp_path / "one.py").write_text(good)
    assert read_rows(tmp_path)["one"].label == "One"
    for text, message in (
        (good.replace(', label="One"', ""), "missing 1 required keyword-only argument: 'label'"),
        (good.replace("head=True", "head=True, colour=3"), "unexpected keyword argument 'colour'"),
        (good.replace('"plain"', '"pears"'), "layout='pears': allowed are plain, pairs, groups"),
        (good, "ROW says name='one'; name it after its file|registered twice"),
        ("x = 1\n", "found 0 assignments to ROW, wanted one"),
    ):
        (tmp_path / "two.py").write_text(text)
        with pytest.raises(ImportError, match=message) as error:
            read_rows(tmp_path)
        assert "two.py" in str(error.value)


def test_a_loss_starts_from_its_published_settings_unless_told_otherwise():
    # Catches: a margin of ArcFace in a loss that is published without one; settings overruled.
    assert make_config(loss="center").m == 0
    assert make_config(loss="center", m=0.3).m == 0.3
    assert make_config("ms1m-arcface", loss="center").m == 0
    assert make_config(loss="triplet").images_per_identity == 4
    assert make_config(m=0.3).m == 0.3
    assert make_config(images_per_identity=4).digest() != make_config().digest()
    assert make_config(decode_scale=True).digest() != make_config().digest()


def test_presets_hold_source_a_s_numbers():
    # Catches: drift of the published settings.
    arc, nce = make_config("ms1m-arcface"), make_config("ms1m-infonce")
    assert (arc.s, arc.m, arc.lr, arc.weight_decay, arc.clip_norm) == (32, 0.2, 0.1, 5e-4, 5)
    assert (arc.global_batch // arc.processes, nce.global_batch // nce.processes) == (1350, 1450)
    assert (nce.tau, nce.gather, arc.epochs, arc.dropout, arc.dim) == (0.07, False, 30, 0.4, 512)
    assert make_config("ms1m-hybrid").contrastive_weight == 0.5
    standard = make_config("ms1m-arcface-standard")
    assert (standard.s, standard.m) == (64, 0.5)
    assert {"smoke", *(f"ms1m-{n}" for n in ("arcface", "infonce", "hybrid"))} < set(PRESETS)


def test_lora_presets_hold_source_a_s_batches_and_an_equal_one():
    # Catches: drift of the published settings, negatives that differ where they are called equal.
    published = {name: make_config(f"ms1m-lora-{name}") for name in ("clip", "dinov2", "ijepa")}
    per_gpu = [cfg.global_batch // cfg.processes for cfg in published.values()]
    assert per_gpu == [4100, 780, 120]
    for cfg in published.values():
        assert (cfg.lora_rank, cfg.lora_alpha, cfg.lora_targets) == (8, 8, "ffn")
        assert (cfg.optimizer, cfg.lr, cfg.loss) == ("sgd", 0.001, "infonce")
        assert cfg.warmup * cfg.epochs == pytest.approx(5)
        assert cfg.lora_spread == pytest.approx(6**0.5)
        assert (cfg.precision, cfg.image_size, cfg.gather) == ("fp16", 112, False)
    assert [cfg.epochs for cfg in published.values()] == [15, 15, 5]  # of its settings files
    for name in ("clip-peft", "dinov2-peft", "ijepa-peft", "ijepa-text", "ijepa-equal"):
        assert make_config(f"ms1m-lora-{name}").epochs == 15  # of its text
    ours = make_config("ms1m-lora-dinov2-peft").changes_from(published["dinov2"])
    assert set(ours) == {"name", "lora_spread", "warmup"}
    for name in ("clip-equal", "ijepa-equal", "clip-arcface", "ijepa-arcface", "dinov2-arcface"):
        assert make_config(f"ms1m-lora-{name}").global_batch == 2 * 780
    assert make_config("ms1m-lora-ijepa-equal").recompute


def test_the_coreface_preset_holds_the_published_code_s_numbers():
    # Catches: drift of the published settings (the learning rate's shape is this study's).
    cfg = make_config("ms1m-coreface")
    assert (cfg.coreface_weight, cfg.coreface_mask, cfg.dropout) == (0.05, "zero", 0.4)
    assert (cfg.backbone, cfg.s, cfg.m, cfg.gather) == ("iresnet100", 64, 0.5, False)
    assert (cfg.global_batch // cfg.processes, cfg.processes, cfg.epochs) == (128, 4, 24)
    assert cfg.coreface_warmup == pytest.approx(7 / 24)


def test_the_cluster_preset_holds_source_b_s_numbers():
    # Catches: drift of the published settings (decay, dropout and processes are source A's).
    cfg = make_config("ms1m-cluster-r100")
    assert (cfg.loss, cfg.backbone, cfg.s, cfg.m, cfg.global_batch) == (
        *("cluster", "iresnet100", 64, 0.5, 512),
    )
    assert (cfg.optimizer, cfg.lr, cfg.schedule, cfg.epochs) == ("adam", 1e-3, "steps", 80)
    assert [80 * float(part) for part in cfg.drops.split(",")] == [20, 40, 60]
    assert (cfg.cluster_slots, cfg.cluster_classes, cfg.cluster_ring) == (8192, 2048, 0)
    assert (cfg.cluster_encoder, cfg.cluster_centre) == (0.999, 0.9)
    assert (cfg.cluster_margin, cfg.cluster_contrast, cfg.cluster_align) == (1, 1, 0.5)
    assert (cfg.cluster_phi, cfg.cluster_lambda, cfg.cluster_term) == (
        *("literal", "literal", "clucon"),
    )


def test_a_choice_that_means_something_else_now_gives_its_runs_new_names():
    # Catches: a finished run of the earlier meaning found under the name of the new one.
    pcl, tau0 = (make_config(loss="cluster", cluster_phi=phi) for phi in ("pcl", "tau0"))
    former = [DIGEST_VERSION, {"loss": "cluster", "cluster_phi": "pcl", "name": pcl.name}]
    assert digest_values(former, digits=8) != pcl.digest()
    former[1]["cluster_phi"] = "tau0"
    assert digest_values(former, digits=8) == tau0.digest()  # all others keep theirs


def test_settings_on_the_command_line_get_the_type_of_their_field():
    # Catches: strings reaching the config, "False" read as true.
    found = parse_settings(["tau=0.1", "images_seen=10_000", "flip=False", "loss=hybrid"])
    assert found == {"tau": 0.1, "images_seen": 10_000, "flip": False, "loss": "hybrid"}
    with pytest.raises(UserError, match="write KEY=VALUE"):
        parse_settings(["tau"])
    with pytest.raises(UserError, match="tau='x': wanted float"):
        parse_settings(["tau=x"])


def test_a_length_in_epochs_replaces_a_length_in_images():
    # Catches: "--set epochs=2" refused because the preset counts images, or the reverse.
    assert make_config(epochs=2.0).images_seen == 0
    assert make_config("ms1m-arcface", images_seen=640).epochs == 0


def test_config_cannot_be_changed_in_place():
    # Catches: a run folder whose digest no longer describes what is trained.
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().tau = 1.0


def test_differences_between_configs_are_listed():
    # Catches: swapped sides.
    assert make_config(lr=0.2).changes_from(make_config()) == {"lr": (0.1, 0.2)}


def test_none_means_the_preset_s_value():
    # Catches: a notebook parameter left alone that overrides the preset with None.
    assert make_config("ms1m-infonce", tau=None, lr=None) == make_config("ms1m-infonce")


def test_the_preset_of_a_loss_is_the_sibling_that_is_called_after_it():
    # Catches: an analysis of MS1M runs that looks for ms1m-arcface-infonce, which nobody trains.
    assert preset_for("ms1m-arcface", "infonce") == "ms1m-infonce"
    assert preset_for("ms1m-infonce", "coreface") == "ms1m-coreface"
    assert preset_for("ms1m-arcface", "circle") == "ms1m-arcface"
    assert preset_for("smoke", "infonce") == "smoke"
    assert preset_for("ms1m-lora-clip", "arcface") == "ms1m-lora-clip"
