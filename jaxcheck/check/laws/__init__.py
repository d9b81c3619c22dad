"""The laws that every custom rule obeys, whatever it computes."""
