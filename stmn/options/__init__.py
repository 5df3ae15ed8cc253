"""The options of every stage, as pydantic models; nothing here imports torch."""
