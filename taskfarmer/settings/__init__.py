"""What users set: times and sizes as they write them, and the names of runners and handlers."""
