"""Model organisms: small Countdown models made from nothing, for machines without a hub."""
