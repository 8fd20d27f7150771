"""A world small enough to train in: word problems, ways to solve them, and a base model that learned them all."""
