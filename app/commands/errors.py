"""What a verb may end with, beside the errors of the packages."""


class RunFailed(RuntimeError):
    """A run that started and did not come to a usable end."""
