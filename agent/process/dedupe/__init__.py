"""This folder folds records that repeat themselves: what makes a repeat, and one record that says how often."""
