"""Errors that a person can act on: the bad value, the allowed ones, the next command."""


def printable(text: object) -> str:
    """Any text on one line, with escapes for what a terminal would take as a command."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


class UserError(Exception):
    """Wrong input, configuration or data: the command line prints it and exits with 2.

    The message is one line that a terminal shows as it is, whatever signs a name in it has; `log`,
    lines of a log, stands below it.
    """

    def __init__(self, message: str, log: str = ""):
        lines = [message, *log.splitlines()]
        super().__init__("\n".join(map(printable, lines)))


class BadData(UserError):
    """A file or record that is missing, truncated, corrupted or hostile.

    The message says which file, at which offset or entry, what was found and what was wanted.
    `reason` is what files that are left out for it are counted under.
    """

    def __init__(self, message: str, reason: str = "no readable picture"):
        self.reason = reason
        super().__init__(message)


class BadRecord(BadData):
    """A record of a training set that is no image: what reads the set may skip it."""
