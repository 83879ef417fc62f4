"""The error class for everything that a user can fix."""

_LONGEST_REASON = 200  # characters of a library's message


class UserError(Exception):
    """Bad input, a wrong option, a missing file: something that the user can fix.

    The message names the file or option, what is wrong with it and how to fix it. The command-line scripts print it as
    one line and exit with status 2: line breaks and control characters, which file names may hold, are escaped. It is
    not a ValueError: the command-line parser would catch that as its own.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: str) -> str:
    """The text with line breaks and other unprintable characters escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def reason(error: BaseException) -> str:
    """A library's error message in one short line: its first line, or its type if the message is empty."""
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = message.strip().partition("\n")[0]
    return printable(line[:_LONGEST_REASON]) or type(error).__name__
