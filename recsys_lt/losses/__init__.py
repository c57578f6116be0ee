"""Losses: functions of states, targets and an output table; one file a family."""
