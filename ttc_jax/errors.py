"""The one error that is the user's to mend."""


class UserError(Exception):
    """A mistake the user can mend.

    The message is one line that names the field or file and the way out. The command line prints it
    to stderr without a traceback and exits with code 2.
    """
