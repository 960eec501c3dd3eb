"""Errors that a person can act on: the bad value, the allowed ones, the next command."""


class UserError(Exception):
    """Wrong input, configuration or data: the command line prints it and exits with 2."""


class BadData(UserError):
    """A file or record that is missing, truncated, corrupted or hostile.

    The message says which file, at which offset or entry, what was found and what was wanted: on
    one line that a terminal shows as it is, whatever signs a name in the file has. `reason` is
    what files that are left out for it are counted under.
    """

    def __init__(self, message: str, reason: str = "no readable picture"):
        self.reason = reason
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


class BadRecord(BadData):
    """A record of a training set that is no image: what reads the set may skip it."""
