"""The record of what shoppers saw and did, and of rollouts: spool, database, reading in order of arrival."""
