"""What pipelines are: their folders, read and judged."""
