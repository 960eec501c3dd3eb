"""The verb `settings`: every setting of a run with its default, limits and help."""

import argparse
import difflib
import sys
import textwrap

from facelib.cli.common import add_verb
from facelib.config import FIELDS, NOT_IN_DIGEST, OWNERS, users_of
from facelib.errors import UserError
from facelib.rows import LOSS_ROWS, describe

WIDTH = 98


def settings_table(names: list[str] | None = None) -> str:
    """One line per setting: name, default, help."""
    lines = []
    for name in names or FIELDS:
        default = f"{FIELDS[name].default}".replace("None", "")
        first = f"  {name:<20} {default:<20} "
        help = textwrap.wrap(FIELDS[name].metadata["help"], WIDTH - len(first))
        lines.append(first + help[0])
        lines += [" " * len(first) + line for line in help[1:]]
    return "\n".join(lines)


def describe_setting(name: str) -> str:
    """What is known of one setting, for a person.

    Raises:
        UserError: no such setting, with the nearest one.
    """
    if name not in FIELDS:
        near = difflib.get_close_matches(name, FIELDS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(f"unknown setting {name!r}{hint}; list them: python -m facelib settings")
    field, owner = FIELDS[name], FIELDS[name].metadata["of"]
    users = users_of(name)
    facts = {
        "default": repr(field.default),
        "type": field.type.__name__,
        "allowed": describe(field) or "any",
        "belongs to": "",
        "in the run's name": "no: it changes no result" if name in NOT_IN_DIGEST else
        "yes, where it is not at its default",
        "published with": ", ".join(
            f"{loss}: {row.published[name]}"
            for loss, row in LOSS_ROWS.items() if name in row.published
        ),
    }  # fmt: skip
    if users:
        facts["belongs to"] = f"loss={', '.join(users)}"
    elif owner in OWNERS:
        facts["belongs to"] = f"{OWNERS[owner][0]}={', '.join(OWNERS[owner][1])}"
    lines = [f"{name}: {field.metadata['help']}"]
    for key, value in facts.items():
        if value:
            lead = f"{key:>18}: "
            lines += textwrap.wrap(value, WIDTH, initial_indent=lead, subsequent_indent=" " * 20)
    return "\n".join(lines)


def add_settings(verbs) -> None:
    """The verb and its options."""

    def run(options: argparse.Namespace) -> None:
        if options.names:
            text = "\n\n".join(describe_setting(name) for name in options.names)
        else:
            text = f"  {'setting':<20} {'default':<20} help\n{settings_table()}"
        sys.stdout.write(text + "\n")

    verb = add_verb(verbs, "settings", "all settings of a run, or what is known of some", run,
                    "settings\nsettings tau bank_slots")  # fmt: skip
    verb.add_argument("names", nargs="*", metavar="NAME")
