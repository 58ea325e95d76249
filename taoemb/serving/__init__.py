"""What answers shoppers: the query encoder, the search gateway, and the record of what they saw and did."""
