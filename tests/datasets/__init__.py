"""Tests of the data sets: official layouts in, packed arrays out."""
