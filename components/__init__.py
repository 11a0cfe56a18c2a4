"""Custom TFX nodes."""
