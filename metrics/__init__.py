"""Caption metrics on numpy alone: BLEU, METEOR, ROUGE-L, CIDEr-D, SPICE, diversity, bootstrap."""
