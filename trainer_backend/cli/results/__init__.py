"""The commands about what runs have learned: evaluate, compare, blind, corrections."""
