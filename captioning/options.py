"""How captions are searched for, and what of an image they are made from."""

from dataclasses import dataclass

from nmt.search_options import SearchOptions


@dataclass(frozen=True)
class CaptionOptions(SearchOptions):
    """The options of search, and one that needs an image.

    Args:
        mirror: Look at each image and at its mirror image, and write by the mean of what the two make probable. Takes
            twice the time.
    """

    mirror: bool = False

    @property
    def views(self) -> int:
        """Of each image, how many are looked at."""
        return 1 + self.mirror
