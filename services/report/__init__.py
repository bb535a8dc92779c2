"""The report that a scientist opens: plots and a page made from the products."""
