"""What can be wrong with an image or its name; all of it is the user's to mend."""

from __future__ import annotations

from jobs.errors import UserError, WrongState


class BadImage(UserError):
    """The archive, its manifest or one member is refused; the message names archive and member."""

    code = "bad-image"
    status = 422


class NoSuchImage(UserError):
    code = "no-such-image"
    status = 404


class ImageInUse(WrongState):
    code = "image-in-use"
