"""Which values of settings exclude each other, and the numbers that follow from a batch.

The functions take a `Config` and raise `UserError` with the bad value and one that works. Limits of
single settings stand beside them in `config.py` and in the rows of the losses.
"""

import itertools

from facelib.errors import UserError
from facelib.paths import check_folder_name
from facelib.rows import LOSS_ROWS

IRESNETS = ("iresnet10", "iresnet18", "iresnet34", "iresnet50", "iresnet100")
FACE_VITS = ("vit_t", "vit_s", "vit_b", "vit_mini")  # facelib.models.vit.SIZES
# What facelib.models.foundation.FOUNDATIONS holds; models with a size of their own.
FOUNDATION_MODELS = ("clip-vit-b32", "dinov2-vit-b14", "ijepa-vit-h14", "generic-vit")


def check_together(cfg) -> None:
    """Check what no single setting shows.

    Raises:
        UserError: settings that exclude each other.
    """
    if (cfg.images_seen > 0) == (cfg.epochs > 0):
        raise UserError(
            f"images_seen={cfg.images_seen}, epochs={cfg.epochs}: set exactly one above 0"
        )
    for check in (
        _check_drops,
        _check_subset,
        _check_dropout,
        _check_weights,
        _check_batch,
        _check_chunk,
    ):
        check(cfg)
    if cfg.decode_scale and cfg.fill_border != "none":
        raise UserError(
            f"decode_scale=True with fill_border={cfg.fill_border!r}: borders are found in the "
            "full picture; use decode_scale=false"
        )
    if cfg.select in ("val_auc", "val_loss") and cfg.val_fraction == 0:
        raise UserError(f"select={cfg.select!r} needs val_fraction above 0, or use select=last")
    check_folder_name(cfg.name, "name")


def _check_drops(cfg) -> None:
    try:
        parts = [float(part) for part in cfg.drops.split(",")]
    except ValueError:
        parts = []
    rising = all(a < b for a, b in itertools.pairwise(parts))
    if not (parts and rising and parts[0] > 0 and parts[-1] < 1):
        raise UserError(
            f"drops={cfg.drops!r}: wanted rising parts of the run between 0 and 1, as 0.5,0.75"
        )


def parse_shape(text: str, setting: str = "shape") -> tuple[int, int]:
    """`"5000x20"` to (5000, 20): people and images of each.

    Raises:
        UserError: not two numbers, or fewer than two people or images.
    """
    people, _, images = text.strip().partition("x")
    found = [int(part) if part.isdecimal() else 0 for part in (people, images)]
    if min(found) < 2:
        raise UserError(f"{setting}={text!r}: wanted PEOPLExIMAGES, two or more of each, as 240x72")
    return found[0], found[1]


def _check_subset(cfg) -> None:
    if cfg.subset:
        parse_shape(cfg.subset, "subset")


def _check_dropout(cfg) -> None:
    """Two views need dropout, which transformers do not have."""
    views = LOSS_ROWS[cfg.loss].views
    if cfg.backbone not in IRESNETS:
        if views > 1:
            raise UserError(
                f"loss={cfg.loss!r} needs dropout before the last linear layer; backbone "
                f"{cfg.backbone!r} has no dropout layer: use an iresnet, or loss=arcface or infonce"
            )
    elif views > 1 and cfg.dropout == 0:
        raise UserError(
            f"loss={cfg.loss!r} compares two dropout views, which dropout=0.0 makes equal: "
            "use dropout=0.4"
        )


def _check_weights(cfg) -> None:
    """Pretrained weights and adapters belong to foundation models."""
    foundation = cfg.backbone in FOUNDATION_MODELS
    if cfg.init == "pretrained" and not foundation:
        raise UserError(
            f"init='pretrained' belongs to foundation models ({', '.join(FOUNDATION_MODELS)}), "
            f"not to backbone={cfg.backbone!r}"
        )
    if cfg.lora_rank and cfg.init == "scratch":
        raise UserError(
            f"lora_rank={cfg.lora_rank!r} adapts trained weights, init='scratch' has none: use "
            "init=pretrained or init=FOLDER, or lora_rank=0 to train all weights"
        )


def group_size(cfg) -> int:
    """Images of one identity that a batch holds side by side; 1: any images."""
    return cfg.images_per_identity or (2 if LOSS_ROWS[cfg.loss].layout == "pairs" else 1)


def parts_of_batch(cfg) -> int:
    """Parts of the batch whose images never meet in a contrastive term."""
    return cfg.accumulate * (1 if cfg.gather else cfg.processes)


def negatives_per_anchor(cfg) -> int:
    """Images of other identities that an image meets in a batch of pairs or groups."""
    return cfg.global_batch // parts_of_batch(cfg) - group_size(cfg)


def bank_negatives(cfg, classes: int) -> int:
    """Stored features that an image meets at most, beside the batch."""
    if cfg.bank == "none":
        return 0
    return classes - 1 if cfg.bank == "identity" else cfg.bank_slots


def negative_centres(cfg, classes: int) -> int:
    """Centres of other identities in a step's softmax: at least one per row of the batch."""
    if not cfg.sampled_centres:
        return classes - 1
    rows = cfg.global_batch // cfg.accumulate * LOSS_ROWS[cfg.loss].views
    return min(classes, max(cfg.sampled_centres, rows)) - 1


def _check_batch(cfg) -> None:
    """Equal shares for every process and micro-batch, and whole groups for losses on them."""
    row, group = LOSS_ROWS[cfg.loss], group_size(cfg)
    if cfg.images_per_identity and row.layout == "pairs":
        others = [name for name, row in LOSS_ROWS.items() if row.layout == "groups"]
        raise UserError(
            f"images_per_identity={group}: loss={cfg.loss!r} takes pairs; use 0, or a loss on "
            f"groups: {', '.join(others)}"
        )
    what = f"loss={cfg.loss!r}" if row.layout == "groups" else ""
    for name, value in row.groups_if.items():
        what = f"{name}={value!r}" if getattr(cfg, name) == value else what
    grouped = bool(what)
    if grouped and group < 2:
        raise UserError(
            f"images_per_identity={cfg.images_per_identity}: {what} compares images of "
            "an identity inside the batch; use 2 or more, for example 4"
        )
    parts = parts_of_batch(cfg)
    if grouped and cfg.global_batch // parts < 2 * group:
        raise UserError(
            f"global_batch={cfg.global_batch}: {what} needs two identities or more in a "
            f"micro-batch; use {2 * group * parts} or more"
        )
    unit = cfg.processes * cfg.accumulate * group
    if cfg.global_batch % unit:
        lower = max(unit, cfg.global_batch // unit * unit)
        of = {1: "", 2: " of pairs"}.get(group, f" of groups of {group} images")
        raise UserError(
            f"global_batch={cfg.global_batch} does not divide into {cfg.processes} process(es) × "
            f"{cfg.accumulate} micro-batch(es){of}: use {lower} or {lower + unit}"
        )


def _check_chunk(cfg) -> None:
    """Equal chunks of two images or whole groups; anchors are whole chunks."""
    own, group = cfg.global_batch // (cfg.processes * cfg.accumulate), group_size(cfg)
    fits = [n for n in range(max(2, group), own + 1) if own % n == 0 and n % group == 0]
    if cfg.chunk and cfg.chunk not in fits:
        near = sorted(sorted(fits, key=lambda n: abs(n - cfg.chunk))[:3])
        raise UserError(
            f"chunk={cfg.chunk}: a process embeds {own} images of a micro-batch, in equal chunks "
            f"of {'two or more' if group < 2 else f'whole groups of {group}'}: use "
            f"{', '.join(map(str, near)) or 0}, or 0 for all at once"
        )
    if cfg.anchors and (not cfg.chunk or cfg.anchors % cfg.chunk or cfg.anchors >= own):
        parts = sorted((n for n in fits if n < own), key=lambda n: abs(n - cfg.anchors))
        way = f"anchors={parts[0]} chunk={parts[0]}, or anchors=0" if parts else "anchors=0"
        raise UserError(
            f"anchors={cfg.anchors} with chunk={cfg.chunk}: wanted whole chunks, fewer than the "
            f"{own} images of a process: use {way}"
        )
