"""Small models trained from scratch that show known mechanisms."""
