"""Text to tokens to batches: what a training reads.

`open_corpus` gives a `Corpus` from a text file, from a folder that nanoGPT prepared, or Tiny Shakespeare;
`token_window` and its neighbours cut windows out of it. Nothing here imports torch.
"""

from lossgap.corpus.cache import cache_folder
from lossgap.corpus.dataset import Corpus
from lossgap.corpus.opening import BUILT_IN, open_corpus
from lossgap.corpus.shakespeare import tiny_shakespeare
from lossgap.corpus.token_file import Tokens
from lossgap.corpus.tokenizer import BpeTokenizer, CharTokenizer, Tokenizer, tokenizer_from_dict
from lossgap.corpus.windows import Split, count_starts, evenly_spaced_windows, exact_windows, token_window

__all__ = [
    "BUILT_IN",
    "BpeTokenizer",
    "CharTokenizer",
    "Corpus",
    "Split",
    "Tokenizer",
    "Tokens",
    "cache_folder",
    "count_starts",
    "evenly_spaced_windows",
    "exact_windows",
    "open_corpus",
    "tiny_shakespeare",
    "token_window",
    "tokenizer_from_dict",
]
