"""What a checker of encoded files raises; it knows the place, its caller the file's name."""


class Damage(Exception):
    """A file whose pixels, or a part of them, are lost or made up."""

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(what)
        self.what, self.offset = what, offset
