"""What training optimises: relevance, quality and exclusivity, and how they combine (paper section 4)."""
