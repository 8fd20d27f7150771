"""Post-training in several stages: recipes and their replay, published checkpoints, watched runs, the miniature."""
