"""Whatever grades (query, item): prompt, client, cache, server, and a judge trained from graded pairs."""
