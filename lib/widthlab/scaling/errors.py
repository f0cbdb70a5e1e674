"""What is refused when a model of one's own is scaled."""


class ScalingError(ValueError):
    """A model cannot be scaled as it is; the message says what to write."""
