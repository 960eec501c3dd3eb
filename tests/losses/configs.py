"""Configurations for tests that go over all losses."""

from facelib.config import FIELDS, Config, foreign, make_config
from facelib.rows import LOSS_ROWS

WITH_BLOCKS = [name for name, row in LOSS_ROWS.items() if "loss_block" in row.taken]
WITH_SPLIT_CENTRES = [name for name, row in LOSS_ROWS.items() if "sharded" in row.taken]
ON_GROUPS = [name for name, row in LOSS_ROWS.items() if row.layout == "groups"]


def config_of(loss: str, **wanted) -> Config:
    """A loss with the wanted settings that it has; two views get the dropout that they need."""
    chosen = {name: field.default for name, field in FIELDS.items()} | {"loss": loss}
    if LOSS_ROWS[loss].views > 1:
        wanted = {"dropout": 0.4, **wanted}
    return make_config(
        loss=loss, **{k: v for k, v in wanted.items() if not foreign(FIELDS[k], chosen)}
    )
