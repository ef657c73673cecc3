"""What all benchmarks share: cases, how they are measured, records and tables."""
