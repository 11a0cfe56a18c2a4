"""Caption metrics on numpy alone: BLEU, METEOR, ROUGE-L, CIDEr-D, diversity, bootstrap."""
