"""Text becomes token shards: the files of a corpus, a tokenizer trained on them, and the cache of both. No torch."""
