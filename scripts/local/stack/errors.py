"""The one exception that a person reads."""


class StackError(Exception):
    """Something a person can put right. The message is a full sentence with the way out."""
