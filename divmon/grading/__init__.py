"""Completions -> correct, wrong, or ungradable: verifiers in child processes, programs in a sandbox."""
