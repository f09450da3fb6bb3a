"""Benchmarks for asv: `cd benchmarks && asv run --quick --python=same` runs each once in the current environment."""
