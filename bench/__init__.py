"""Measurements, kept out of the tests: `make bench` runs them and writes what they found into `RESULTS.md`."""
