"""A series, one study for each value of a list: what its members say together.

members.py  the members' results, and what is left out
sizes.py    over numbers of training rows: learning curves
bases.py    over base models: all arms of all bases in one comparison
sets.py     over data sets: average ranks
"""
