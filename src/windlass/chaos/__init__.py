"""Faults on purpose: what breaks a cluster so that anyone can see its promises hold."""
