"""The learners, each a folder, and what they share."""
