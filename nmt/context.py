"""What an encoder, whatever it reads, hands to the decoder."""

from dataclasses import dataclass, fields

from jaxtyping import Bool, Float, Int
from torch import Tensor

from nmt.recurrent import RecurrentState


@dataclass(frozen=True)
class Context:
    """The source as the decoder and the search know it.

    state: the decoder's initial state, or None for zeros
    memory: what attention looks at, or None; memory_mask is True at its real positions
    vector: read by the decoder at every step, or None
    first_input: fed to the decoder once, before the start token, or None
    """

    state: RecurrentState | None = None
    memory: Float[Tensor, "rows positions features"] | None = None
    memory_mask: Bool[Tensor, "rows positions"] | None = None
    vector: Float[Tensor, "rows summary"] | None = None
    first_input: Float[Tensor, "rows embedding"] | None = None

    def select(self, rows: Int[Tensor, " selected"]) -> "Context":
        """The same for some of the rows, in any order and number."""
        chosen = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, RecurrentState):
                value = value.select(rows)
            elif value is not None:
                value = value.index_select(0, rows)
            chosen[field.name] = value
        return Context(**chosen)
