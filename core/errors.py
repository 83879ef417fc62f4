"""The one error class for what a user can fix."""

_LONGEST_REASON = 200  # characters of a library's message


class UserError(Exception):
    """Bad input, a wrong option, a missing file: something the person at the keyboard can put right.

    The message is a complete sentence that names the file or option, says what is wrong with it and how to
    mend it. The command-line scripts print it as one line and exit with status 2: line breaks and control characters,
    which file names may hold, are escaped. It is no ValueError, so that nothing on the way, the command-line parser
    included, takes it for one of its own.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: str) -> str:
    """The text with everything that is not printable, line breaks included, as an escape sequence."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def reason(error: BaseException) -> str:
    """What a library's error says, in one short line: its first line, or its kind where it says nothing."""
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = message.strip().partition("\n")[0]
    return printable(line[:_LONGEST_REASON]) or type(error).__name__
