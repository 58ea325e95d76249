"""The search gateway: arms, filters, searches, limits, and its process."""
