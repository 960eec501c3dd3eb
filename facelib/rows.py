"""What a setting of a run is, and what a loss is: pure data, so that nothing here imports torch.

A setting is one line: its default with help and limits beside it. A loss is one file of
`facelib/losses/`; its `ROW` says what it asks of a batch, which settings it takes and where it is
from. `read_rows` evaluates the `ROW` of each file without running the rest of it. So a wrong
setting is named at once, and a new loss needs no edit elsewhere.
"""

import ast
import dataclasses
import math
from pathlib import Path

from facelib.errors import UserError

LAYOUTS = ("plain", "pairs", "groups")
LIMITS = {
    "low": (lambda value, limit: value >= limit, "at least"),
    "above": (lambda value, limit: value > limit, "above"),
    "high": (lambda value, limit: value <= limit, "at most"),
    "below": (lambda value, limit: value < limit, "below"),
}


def setting(
    default: object,
    help: str,
    *,
    of: str = "",
    choices: tuple[str, ...] = (),
    changes_result: bool = True,
    revised: tuple[str, ...] = (),
    **limits: float,
):
    """A field of `Config` with what is known of it.

    Args:
        of: what must be chosen for the setting to mean anything, a key of `config.OWNERS`; "" is
            every run.
        choices: the allowed values; none: any.
        changes_result: False keeps it out of the digest, and so out of the run's name.
        revised: choices that once meant something else: their runs get new names.
        limits: low, high (allowed themselves), above, below (not allowed themselves).
    """
    unknown = set(limits) - set(LIMITS)
    if unknown:
        raise TypeError(f"setting(): unknown limit {sorted(unknown)[0]!r}")
    facts = {"help": help, "of": of, "choices": choices, "revised": revised, "limits": limits}
    return dataclasses.field(default=default, metadata=facts | {"changes_result": changes_result})


def check_value(field: dataclasses.Field, value: object) -> None:
    """Type, choice and range of one setting.

    Raises:
        UserError: with the value and what is allowed.
    """
    name, kind = field.name, field.type
    whole_number = isinstance(value, int) and not isinstance(value, bool)
    if not (type(value) is kind or (kind is float and whole_number)):
        raise UserError(f"{name}={value!r}: wanted {kind.__name__}, got {type(value).__name__}")
    if kind is float and not math.isfinite(value):
        raise UserError(f"{name}={value!r}: wanted a finite number")
    choices = field.metadata["choices"]
    if choices and value not in choices:
        raise UserError(f"{name}={value!r}: allowed are {', '.join(choices)}")
    for key, limit in field.metadata["limits"].items():
        fits, words = LIMITS[key]
        if not fits(value, limit):
            raise UserError(f"{name}={value!r}: must be {words} {limit}")


def parse_value(field: dataclasses.Field, text: str) -> object:
    """A command line's text as the setting's type."""
    name, kind = field.name, field.type
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UserError(f"{name}={text!r}: allowed are true, false")
        return text.lower() == "true"
    try:
        return kind(text.replace("_", "")) if kind is int else kind(text)
    except ValueError:
        raise UserError(f"{name}={text!r}: wanted {kind.__name__}") from None


def describe(field: dataclasses.Field) -> str:
    """Limits and choices of a setting as text, for help."""
    facts = field.metadata
    if facts["choices"]:
        return ", ".join(facts["choices"])
    return ", ".join(f"{LIMITS[key][1]} {limit:g}" for key, limit in facts["limits"].items())


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossRow:
    """What the rest of the project needs to know of a loss.

    Attributes:
        name: the value of `loss=`, and the name of its file.
        label: its name in tables and pictures.
        layout: "plain"; "pairs": P identities × 2 images at adjacent indices; "groups": P × K.
        head: does it have one learned centre per training identity?
        views: dropout views of one trunk pass; with 2, z is (2B, d), view after view.
        takes: settings that it shares with other losses (marked of="loss" in `Config`).
        settings: its own: name -> `setting(...)`.
        published: what it is published with, where `make_config` is not told otherwise.
        source: paper and equation.
        groups_if: setting -> value with which it compares images of one identity inside the batch.
    """

    name: str
    label: str
    layout: str
    head: bool
    source: str
    views: int = 1
    takes: tuple[str, ...] = ()
    settings: dict[str, object] = dataclasses.field(default_factory=dict)
    published: dict[str, object] = dataclasses.field(default_factory=dict)
    groups_if: dict[str, object] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout={self.layout!r}: allowed are {', '.join(LAYOUTS)}")

    @property
    def taken(self) -> set[str]:
        """All settings that belong to some losses only and that this one uses."""
        return {*self.takes, *self.settings}


# Groups of shared settings, for the rows: ArcFace's own; a classifier whose centres may be sampled,
# taken in blocks or spread over processes.
ARC = ("s", "m", "gradient", "branch")
CENTRES = ("sampled_centres", "centre_block", "sharded")


def read_rows(folder: Path) -> dict[str, LossRow]:
    """The rows of all losses in a folder: name -> row, in order of their files.

    Raises:
        ImportError: a file without `ROW`, a row that lacks a field or has an unknown one, a row
            whose name is not its file's; with the file.
    """
    rows: dict[str, LossRow] = {}
    for path in sorted(folder.glob("*.py")):
        if path.stem == "__init__":
            continue
        body = ast.parse(path.read_text(encoding="utf-8"), str(path)).body
        found = [
            node.value
            for node in body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "ROW"
        ]
        if len(found) != 1:
            raise ImportError(
                f"{path}: found {len(found)} assignments to ROW, wanted one (what several losses "
                "share stands in losses/parts/)"
            )
        try:
            row = eval(compile(ast.Expression(found[0]), str(path), "eval"), dict(_NAMES))
        except Exception as error:
            raise ImportError(f"{path}: ROW: {error}") from error
        if row.name in rows:
            raise ImportError(f"{path}: loss {row.name!r} is registered twice")
        if row.name != path.stem:
            raise ImportError(f"{path}: ROW says name={row.name!r}; name it after its file")
        rows[row.name] = row
    return rows


_NAMES = {"LossRow": LossRow, "setting": setting, "ARC": ARC, "CENTRES": CENTRES}
LOSS_ROWS = read_rows(Path(__file__).with_name("losses"))


def own_settings() -> dict[str, dataclasses.Field]:
    """The settings of single losses, name -> field.

    Raises:
        ImportError: two losses with a setting of one name.
    """
    found: dict[str, dataclasses.Field] = {}
    for row in LOSS_ROWS.values():
        for name, field in row.settings.items():
            if name in found:
                raise ImportError(f"losses/{row.name}.py: another loss has the setting {name!r}")
            found[name] = field
    return found
