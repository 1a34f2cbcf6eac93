"""What goes wrong through a user's input, as opposed to a defect of the program."""


class UserError(Exception):
    """An error that a user can cause; its message says what is wrong, where, and what to do.

    Commands print the message without a traceback and exit with a non-zero code.
    """
