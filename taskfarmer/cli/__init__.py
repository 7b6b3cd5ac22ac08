"""Words in, words out, exit status. The only room that prints."""

PROGRAM = "pytaskfarmer.py"
VERBS = ("run", "status", "retry", "doctor", "runners", "tasklists")
