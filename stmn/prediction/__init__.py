"""`stmn predict`: videos of any kind and length, whole or along time, and what the network looked at."""
