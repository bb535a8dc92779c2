"""The report: HTML pages, an index and one per set of exposures, or the same content as one PDF.

The report only presents. Every figure was measured by a service and is read from its manifest or its data
objects. The only arithmetic here is binning for histograms and the Gaussian drawn over them, averaging of
images down to the size of the page, and sums over the exposures of a set.
"""
