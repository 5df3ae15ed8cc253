"""Descriptions of networks: outline, cost, table, figure."""
