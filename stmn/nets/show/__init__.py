"""Networks described: outline, cost, figure."""
