"""Why a meter is not there."""


class NoMeter(Exception):
    """This machine has no such meter, or none that we may read; the sentence says why. It never leaves `meters`."""
