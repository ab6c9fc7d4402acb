"""What a run costs, and where: counters, records and their export formats."""
