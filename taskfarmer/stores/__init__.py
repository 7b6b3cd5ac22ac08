"""Stores: where each task's state lives."""
