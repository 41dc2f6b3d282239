"""The error of a checker of encoded files: it knows the offset, its caller the file's name."""


class Damage(Exception):
    """A file whose pixels, or a part of them, are lost or made up."""

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(what)
        self.what, self.offset = what, offset
