"""The program beside its peers: `python -m bench`. See README.md."""
