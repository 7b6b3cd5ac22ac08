"""PyTaskFarmer works through a file of shell commands on as many nodes as you start it on."""

__version__ = "0.2.0"
