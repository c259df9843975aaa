"""The kinds of scheduler; `search.scheduler` says what they keep to, and makes them."""
