"""Parts that benchmarks share: networks, lesions, the published loop, clocks, memory, reports."""
