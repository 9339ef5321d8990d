"""Lanelock."""
