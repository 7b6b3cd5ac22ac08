"""Words in, words out, exit status. The only room that prints."""
