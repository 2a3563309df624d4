"""Machines that look for faults: random requests to a live server, random schedules offline."""
