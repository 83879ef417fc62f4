"""The one error class for what a user can mend."""


class UserError(Exception):
    """Bad input, a wrong option, a missing file: something the person at the keyboard can put right.

    The message is a complete sentence that names the file or option, says what is wrong with it and how to
    mend it. The command-line scripts print it as one line and exit with status 2. It is no ValueError, so that nothing
    on the way, the command-line parser included, takes it for one of its own.
    """
