"""Timing, statistics of timings, and the machine that they were made on."""
