"""Face data: formats, rendered faces, alignment, benchmarks, sampling."""
