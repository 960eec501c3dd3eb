"""A folder of people: one folder of picture files for each, `FOLDER/NAME/*.jpg`."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from facelib.errors import UserError
from facelib.formats.decode import IMAGE_SUFFIXES
from facelib.safety.readers import one_line


def sort_pictures(paths: Iterable[Path], left_out: Counter | None = None) -> list[Path]:
    """Those of some files that are pictures by their names, sorted.

    Args:
        left_out: gets the number of the others, by reason.
    """
    left_out, pictures = Counter() if left_out is None else left_out, []
    for path in sorted(paths):
        if path.name.startswith("."):  # the Finder's, with the suffix of the picture they belong to
            left_out["hidden file"] += 1
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            pictures.append(path)
        elif path.is_dir():
            left_out["folder in a person's folder"] += 1
        else:
            left_out[f"no picture by its name ({path.suffix.lower() or 'no suffix'})"] += 1
    return pictures


def list_identities(src: Path, left_out: Counter | None = None) -> dict[str, list[Path]]:
    """Image files by identity; identities and files sorted by name.

    Args:
        left_out: gets the number of files that are left out, by reason.

    Raises:
        UserError: no such folder, or no image in a folder of its own identity.
    """
    src, left_out = Path(src), Counter() if left_out is None else left_out
    if not src.is_dir():
        raise UserError(f"{src}: no such folder; wanted one folder of images for each identity")
    identities = {}
    for folder in sorted(src.iterdir()):
        if folder.is_dir() and not folder.name.startswith("."):
            identities[folder.name] = sort_pictures(folder.iterdir(), left_out)
        elif folder.suffix.lower() in IMAGE_SUFFIXES:
            left_out["picture outside of a person's folder"] += 1
    for name in identities:
        if not one_line(name):
            raise UserError(
                f"{src}: a folder is called {name!r}: a name with a line break cannot be a line of"
                " names.txt; rename the folder"
            )
    if not any(identities.values()):
        there = "".join(f"; {count} × {reason}" for reason, count in left_out.items())
        raise UserError(
            f"{src}: no image found; wanted {src}/NAME/*.jpg, one folder for each identity{there}"
        )
    return identities


def is_tree(folder: Path) -> bool:
    """Whether a folder without a `.rec` has a picture in a folder of its own."""
    folder = Path(folder)
    if not folder.is_dir() or any(folder.glob("*.rec")) or (folder / "train.idx").exists():
        return False
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.glob("[!.]*/[!.]*"))
