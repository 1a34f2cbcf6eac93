"""The target words that search may choose from, given the source: a vocabulary shortlist for large vocabularies.

Jean et al. (2015), section 3.3: for each source word the K target words that it is most probably translated by, and
beside these the most frequent target words. They align with fast_align; here IBM Model 1 gives the probabilities.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from data.errors import UserError
from data.files import write_bytes
from data.source import Ragged
from data.tokenizer import Tokenizer

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shortlist:
    """For each source id, the empty word among them, its target ids, and those that are always on the list."""

    by_source: Ragged
    always: Ids

    def words(self, sources: npt.NDArray[np.integer], forced: Iterable[Sequence[int]] = ()) -> Ids:
        """The target ids for these source ids, sorted; the special ones come first and so keep their places.

        Args:
            forced: Target ids that must be among them.
        """
        listed = self.by_source.taken(np.unique(sources))
        return np.unique(np.concatenate([self.always, listed, *(np.array(ids, np.int64) for ids in forced)]))

    def save(self, path: Path, source: Tokenizer, target: Tokenizer) -> None:
        """Write it, with what tells these vocabularies; raises UserError if the file cannot be written."""
        lengths = self.by_source.lengths
        tensors: dict[str, npt.NDArray[Any]] = {
            "lengths": lengths,
            "targets": self.by_source.values,
            "always": self.always,
        }
        metadata = {"source": source.fingerprint, "target": target.fingerprint}
        write_bytes(path, safetensors.numpy.save(tensors, metadata))

    @classmethod
    def load(cls, path: Path, source: Tokenizer, target: Tokenizer) -> "Shortlist":
        """Read what `save` has written.

        Raises:
            UserError: the file cannot be read, is no shortlist, or was made for other vocabularies.
        """
        try:
            with safe_open(path, framework="np") as file:
                made_for = file.metadata() or {}
                lengths, targets, always = (file.get_tensor(name) for name in ("lengths", "targets", "always"))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error}): give a shortlist") from error
        except SafetensorError as error:
            raise UserError(
                f"{path}: no shortlist ({error}): give a file that scripts/make_shortlist.py has written"
            ) from error
        for side, tokenizer in (("source", source), ("target", target)):
            if made_for.get(side) != tokenizer.fingerprint:
                raise UserError(
                    f"{path}: made for the {side} vocabulary {str(made_for.get(side))[:12]}..., but the model has "
                    f"{tokenizer.fingerprint[:12]}...: make one for this model with scripts/make_shortlist.py"
                )
        return cls(Ragged(targets, np.cumsum(lengths) - lengths, lengths), always)
