"""The word vectors of encoder and decoder."""

from torch import nn

from data.tokenizer import PAD_ID


class WordVectors(nn.Embedding):
    """A vector for each entry of a vocabulary; that of padding stays zero."""

    def __init__(self, vocabulary: int, size: int) -> None:
        super().__init__(vocabulary, size, padding_idx=PAD_ID)

    def reset_parameters(self) -> None:
        """As torch does, but not on the meta device: there is nothing to draw there, yet torch would import its
        compiler for it, which takes seconds."""
        if not self.weight.is_meta:
            super().reset_parameters()
