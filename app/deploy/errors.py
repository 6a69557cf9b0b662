"""What a deployment may end with, beside the errors of the packages."""


class DeployError(RuntimeError):
    """A coordinator or hospital cannot do what was asked; the message says what to do instead."""
