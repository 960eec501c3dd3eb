"""Config: unknown keys, bad values, digests, presets."""

import dataclasses

import pytest

from facelib.config import Config, make_config, parse_settings
from facelib.errors import UserError
from facelib.limits import CHOICES, GROUP_LOSSES, PAIR_LOSSES, TWO_VIEW_LOSSES
from facelib.losses import LOSSES
from facelib.presets import PRESETS, preset_for


def test_an_unknown_setting_names_the_nearest_known_one():
    # Catches: silently ignored typos: the run would go on with a default.
    with pytest.raises(UserError, match=r"'global_bach'.*did you mean 'global_batch'"):
        make_config(global_bach=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "softmax"}, "loss='softmax': allowed are arcface, infonce, hybrid, coreface"),
        ({"tau": 0.0}, "tau=0.0: must be above 0"),
        ({"tau": "0.1"}, "wanted float, got str"),
        ({"global_batch": 64.0}, "wanted int, got float"),
        ({"flip": 1}, "wanted bool, got int"),
        ({"warmup": 1.0}, r"must be in \[0, 1\)"),
        ({"epochs": 2.0, "images_seen": 64}, "set exactly one above 0"),
        ({"images_seen": 0}, "set exactly one above 0"),
        ({"val_fraction": 0.0, "select": "val_auc"}, "needs val_fraction above 0"),
        ({"loss": "coreface"}, "two dropout views, which dropout=0.0 makes equal: use dropout=0.4"),
        ({"coreface_mask": "one"}, "coreface_mask='one': allowed are zero, clean"),
        ({"loss": "triplet", "images_per_identity": 0}, "use 2 or more, for example 4"),
        ({"loss": "triplet", "global_batch": 4}, "two identities or more in a micro-batch; use 8"),
        ({"loss": "infonce", "images_per_identity": 4}, "takes pairs; use 0"),
        ({"cluster_margin": 2.0}, r"cluster_margin=2.0: must be in \[0, 1\]"),
        ({"cluster_encoder": 1.0}, r"must be in \[0, 1\)"),
        ({"drops": "20,40"}, "drops='20,40': wanted parts of the run between 0 and 1"),
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


WATCHED = {
    "relabel",
    "log_every",
    "save_every",
    "workers",
    "threads",
    "elastic",
}  # they change no result
OWNERS = {
    "coreface_": "coreface", "cluster_": "cluster", "center_": "center", "subcenters": "subcenter",
    "mv_": "mv_softmax", "magface_": "magface", "adaface_": "adaface", "elastic_": "elasticface",
}  # fmt: skip


def moving(base) -> set[str]:
    """The fields of which another value gives another digest."""

    def other(value):
        return not value if isinstance(value, bool) else value + type(value)(1)

    changed = {name: other(value) for name, value in base.to_dict().items()}
    return {k for k, v in changed.items() if base.replace(**{k: v}).digest() != base.digest()}


@pytest.mark.parametrize("loss", LOSSES)
def test_every_setting_is_in_the_digest_but_those_that_change_no_result(loss, monkeypatch):
    # Catches: a new setting that is forgotten (two runs would share one folder), or one of another
    # loss that moves this one's runs to other folders.
    monkeypatch.setattr("facelib.config.check", lambda cfg: None)
    base = Config(loss=loss)
    foreign = {
        name
        for name in base.to_dict()
        for start, owner in OWNERS.items()
        if name.startswith(start) and owner != loss
    }
    assert moving(base) == set(base.to_dict()) - WATCHED - foreign
    assert base.run_name == f"smoke-{base.digest()}"


@pytest.mark.parametrize("loss", LOSSES)
def test_whatever_a_loss_is_built_from_is_in_its_digest(loss, monkeypatch):
    # Catches: a setting that a loss shares with another one, of which alone it is in the digest.
    monkeypatch.setattr("facelib.config.check", lambda cfg: None)
    for changes in ({}, {"cluster_term": "center"}, {"cluster_term": "triplet"}):
        base, read = Config(loss=loss, **changes), set()

        class Spy:
            def __getattr__(self, name, base=base, read=read):
                read.add(name)
                return getattr(base, name)

        LOSSES[loss].build(Spy(), 9)
        assert read and read <= moving(base)


def test_a_setting_of_one_loss_is_in_the_digests_of_that_loss_alone():
    # Catches: a new loss whose fields move every earlier run to another folder.
    assert make_config().run_name == "smoke-arcface-d50b9703"
    for name, value in (("coreface_weight", 0.0), ("coreface_mask", "clean"), ("cluster_ring", 2)):
        own = name.partition("_")[0]
        for loss, changes in (("arcface", 1), (own, 2)):
            base = make_config(loss=loss, dropout=0.4)
            assert len({base.digest(), base.replace(**{name: value}).digest()}) == changes


def test_a_loss_starts_from_its_published_settings_unless_told_otherwise():
    # Catches: a margin of ArcFace in a loss that is published without one; settings overruled.
    assert make_config(loss="center").m == 0
    assert make_config(loss="center", m=0.3).m == 0.3
    assert make_config("ms1m-arcface", loss="center").m == 0
    assert make_config(loss="triplet").images_per_identity == 4
    assert make_config(m=0.3).m == 0.3
    assert make_config(images_per_identity=4).digest() != make_config().digest()
    assert make_config(decode_scale=True).digest() != make_config().digest()


def test_the_config_knows_the_layout_and_views_of_each_loss():
    # Catches: a pair cut in two, or equal views, because the two tables disagree.
    assert set(CHOICES["loss"]) == set(LOSSES)
    assert {name for name, entry in LOSSES.items() if entry.layout == "pairs"} == set(PAIR_LOSSES)
    assert {name for name, entry in LOSSES.items() if entry.layout == "groups"} == set(GROUP_LOSSES)
    assert {name for name, entry in LOSSES.items() if entry.views == 2} == set(TWO_VIEW_LOSSES)


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
        assert (cfg.optimizer, cfg.lr, cfg.epochs, cfg.loss) == ("sgd", 0.001, 15, "infonce")
        assert (cfg.precision, cfg.image_size, cfg.gather) == ("fp16", 112, False)
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
    assert (cfg.cluster_queue, cfg.cluster_classes, cfg.cluster_ring) == (8192, 2048, 0)
    assert (cfg.cluster_encoder, cfg.cluster_centre) == (0.999, 0.9)
    assert (cfg.cluster_margin, cfg.cluster_contrast, cfg.cluster_align) == (1, 1, 0.5)
    assert (cfg.cluster_phi, cfg.cluster_lambda, cfg.cluster_term) == (
        *("literal", "literal", "clucon"),
    )


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
    assert make_config(tau=0.1).changes_from(make_config()) == {"tau": (0.07, 0.1)}


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
